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
    # 40 items in a row on each of the others: many starts, so that a block of the loop would show
    my @tasks;
    for my $server (@fine)
    {
        push @tasks, $server => { job => 'work', server => $server, throttle => 1,
            for_each => 'SELECT jsonb_build_object(\'n\', i) FROM generate_series(1, 40) AS i' };
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
    $f->wait_started($key);
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
    is($f->sql("SELECT state IN ('running', 'canceling') FROM fleet.task_run WHERE run_id = $inside"), 't', "$hole: what runs in the hole is not called anything final");
    is($f->sql("SELECT state IN ('queued', 'starting', 'running') FROM fleet.task_run WHERE run_id = $new"), 't', "$hole: nor is what was to start there");
    # an operator cancels into the hole: nobody blocks
    my $third = $f->start("new_$hole");
    $f->sql("SELECT fleet.cancel_run($third)");
    $f->run_is($f->start("fine_$hole"), 'succeeded', "$hole: nor does a cancel into the hole hold the others up");

    $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$hole'", 't', "$hole: the silence is noticed and has a reason");
    $f->release($key);
    $proxy->ctl('allow', $hole);
    $f->run_is($inside, 'succeeded', "$hole: after it the work there ends");
    is($f->effects($hole, $key), 1, "$hole: with one effect");
    is($f->witnessed($key, 'start'), 1, "$hole: started once") if $hole eq 'a1';
    $f->run_is($new, 'succeeded', "$hole: what was to start in the hole was done");
    is($f->sql_on($hole, "SELECT count(*) FROM etl.effect WHERE key = 'new_$hole'") <= 2, 1, "$hole: once (and the canceled one at most once)");
    my $state = $f->wait_run($third);
    like($state, qr/^(?:canceled|succeeded)$/, "$hole: the canceled one is final: $state");
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
for my $server (qw(dead_name dead_port dead_login))
{
    $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$server'", 't', "$server: has a reason");
    note $f->sql("SELECT last_error FROM fleet.server_status WHERE server = '$server'");
}
$f->run_is($f->start('fine_a1'), 'succeeded', 'the others work');
$f->sql("SELECT fleet.cancel_run($_)") for @dead;
like($f->wait_run($_), qr/^(?:canceled|failed)$/, 'a run on a dead server can be canceled') for @dead;

$f->done;
