# (runs long)
# One of three servers becomes a black hole: connections stay open, nothing comes.  The other two go
# on undelayed; when the hole ends, the work there ends too.
use strict;
use warnings;
use FleetTest;
use Test::More;
use Time::HiRes qw(time);

my $f = FleetTest->new(agents => 2, direct => 2, proxy => 1, slots => 2);
my $proxy = $f->proxy;
$f->job('work', 'SELECT etl.work()');
$f->job('hold', 'SELECT etl.work_until_released()');
my %others = (a1 => [qw(a2 d1)], d1 => [qw(a1 d2)]);

for my $hole (sort keys %others)
{
    my @fine = @{ $others{$hole} };
    my $key = "hole_$hole";
    # 6 items in a row on each of the others: many starts, so that a block of the loop would show
    my @tasks;
    for my $server (@fine)
    {
        push @tasks, $server => { job => 'work', server => $server, throttle => 1,
            for_each => 'SELECT jsonb_build_object(\'n\', i) FROM generate_series(1, 6) AS i' };
    }
    $f->package("fine_$hole", -params => "{\"key\": \"fine_$hole\"}", @tasks);
    $f->package("in_$hole", -params => "{\"key\": \"$key\"}", t => { job => 'hold', server => $hole });
    $f->package("new_$hole", -params => "{\"key\": \"new_$hole\"}", t => { job => 'work', server => $hole });

    # how long it takes without a hole
    my $begin = time;
    my $run = $f->start("fine_$hole");
    $f->run_is($run, 'succeeded', "$hole: without a hole");
    my $without = time - $begin;

    my $inside = $f->start("in_$hole");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'start'", '1', "$hole: a job runs there");
    $proxy->ctl('hole', $hole);
    my $new = $f->start("new_$hole");    # a start into the hole
    $begin = time;
    $run = $f->start("fine_$hole");
    $f->run_is($run, 'succeeded', "$hole: the others do all their work while it is a black hole");
    note sprintf '%s: %.2f s without, %.2f s with the hole', $hole, $without, time - $begin;
    # the longest time that one of the healthy servers stood still
    note 'longest pause of a healthy server: ' . $f->sql(<<"SQL");
SELECT coalesce(max(started_at - before), '0') FROM
    (SELECT started_at, lag(finished_at) OVER (PARTITION BY task ORDER BY started_at) AS before
       FROM fleet.task_run WHERE run_id = $run AND item > 0) AS x
SQL
    is($f->sql("SELECT count(*) FROM fleet.server_status WHERE server = '$hole' AND last_error IS NOT NULL"), '0', "$hole: before anybody has noticed the hole");
    is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'succeeded'"), '12', "$hole: each of their items");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $inside"), 'running', "$hole: what runs in the hole is not called anything final");
    is($f->sql("SELECT finished_at IS NULL FROM fleet.run WHERE run_id = $new") . $f->witnessed("new_$hole", 'start'), 't0', "$hole: nor is what was to start there");
    # an operator cancels into the hole: nobody blocks
    my $third = $f->start("new_$hole");
    $f->sql("SELECT fleet.cancel_run($third)");
    $f->run_is($third, 'canceled', "$hole: a run that waits for a slot in the hole is canceled at once");
    $f->run_is($f->start("fine_$hole"), 'succeeded', "$hole: nor does a cancel into the hole hold the others up");

    $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$hole'", 't', "$hole: the silence is noticed and has a reason");
    $f->release($key);
    $proxy->ctl('allow', $hole);
    $f->run_is($inside, 'succeeded', "$hole: after it the work there ends");
    is($f->effects($hole, $key), 1, "$hole: with one effect");
    is($f->witnessed($key, 'start'), 1, "$hole: started once") if $hole eq 'a1';
    $f->run_is($new, 'succeeded', "$hole: what was to start in the hole was done");
    is($f->effects($hole, "new_$hole"), 1, "$hole: once, and the canceled one never");
}

# A dead name, a port where nobody listens, an address that swallows everything: a reason each, and
# the others work.
$f->sql(<<'SQL');
SELECT fleet.add_server('dead_name', 'host=no-such-host.invalid port=5432 dbname=dw', username => 'etl', password => 'x', mode => 'direct', groups => '{dead}');
SELECT fleet.add_server('dead_port', 'host=127.0.0.1 port=1 dbname=dw', username => 'etl', password => 'x', mode => 'agent', groups => '{dead}');
SELECT fleet.add_server('dead_login', 'host=127.0.0.1 port=1 dbname=dw', username => 'etl', password => 'wrong', mode => 'direct', groups => '{dead}');
SQL
$f->sql('ALTER SERVER dead_login OPTIONS (SET port ' . FleetTest::quote_literal($f->port_of('d2')) . ')');
my @dead;
for my $server (qw(dead_name dead_port dead_login))
{
    $f->package("to_$server", -params => '{"key": "dead"}', t => { job => 'work', server => $server });
    push @dead, $f->start("to_$server");
}
my %reason = (
    dead_name  => '^host name "no-such-host\.invalid" has no address: ',
    dead_port  => '^connection to server at "127\.0\.0\.1", port 1 failed: .*Connection refused',
    dead_login => 'password authentication failed for user "etl"$');
for my $server (sort keys %reason)
{
    $f->wait_for('parent', "SELECT last_error ~ " . FleetTest::quote_literal($reason{$server}) . " FROM fleet.server_status WHERE server = '$server'", 't', "$server: has its reason");
}
$f->run_is($f->start('fine_a1'), 'succeeded', 'the others work');
my ($name, $port, $login) = @dead;
# a wrong password does not get better by waiting
$f->run_is($login, 'failed', 'a run on a server that refuses the password fails');
is($f->sql("SELECT concat_ws(' ', state, sqlstate) FROM fleet.task_run WHERE run_id = $login"), 'failed 28P01', 'with the SQLSTATE of the refusal');
for my $run ($name, $port)
{
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'queued', 'a run on a dead server waits');
    is($f->sql("SELECT fleet.cancel_run($run)"), 't', 'it can be canceled');
    $f->run_is($run, 'canceled', 'and is');
}

# A server with several hosts, the first of which swallows everything.
for my $server (sort keys %others)
{
    my $other = $others{$server}[0];
    $proxy->ctl('hole', $server);
    $f->sql(sprintf q{SELECT fleet.add_server('pair', %s, username => 'etl', password => %s, mode => 'direct')},
        map { FleetTest::quote_literal($_) } sprintf("host='127.0.0.1,127.0.0.1' port='%s,%s' dbname=$FleetTest::DB sslmode=disable connect_timeout=1", map { $f->port_of($_) } $server, $other), $FleetTest::PASSWORD);
    $f->package("pair_$server", -params => "{\"key\": \"pair_$server\"}", t => { job => 'work', server => 'pair' });
    $f->run_is($f->start("pair_$server"), 'succeeded', "several hosts, the first is a black hole: the job runs");
    is($f->effects($other, "pair_$server"), 1, 'several hosts: on the second one');
    $proxy->ctl('allow', $server);
    $f->sql("SELECT fleet.drop_package('pair_$server'); SELECT fleet.remove_server('pair')");
}

$f->done;
