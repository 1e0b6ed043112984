# What is scarce, and what changes: with few file descriptors an agent works through more servers than it
# has descriptors for; a server that was away is there again whatever was changed meanwhile; resolvers end
# with their agent; servers that are altered and parents that ask leave nothing in memory.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1, witness => 0, delays => 0, conf => "max_files_per_process = 64\n");
my $IS_AGENT = q{backend_type = 'pg_fleet agent' AND datname = 'dw'};
$f->job('noop', 'SELECT 1');
my $run;

# ---- away while something is changed -----------------------------------------------------------

$f->package("on $_", t => { job => 'noop', server => $_ }) for qw(a1 d1);
sub state { my ($server) = @_; return "SELECT state FROM fleet.server_status WHERE server = '$server'"; }
for my $server (qw(a1 d1))
{
    my $other = $server eq 'a1' ? 'd1' : 'a1';
    $f->run_is($f->start("on $server"), 'succeeded', "$server works");
    $f->proxy->ctl('refuse', $server);
    $f->proxy->ctl('kill', $server);
    $f->wait_for('parent', state($server), 'suspect', "$server is away, and nothing runs there");
    $f->sql("SELECT fleet.alter_server('$other', slots => 5)");
    $f->run_is($f->start("on $other"), 'succeeded', "$other is altered meanwhile, and works");
    $f->proxy->ctl('allow', $server);
    $f->wait_for('parent', state($server), 'online', "$server is back: it is not suspect for good");
    $f->run_is($f->start("on $server"), 'succeeded', '… and works');
}

# ---- a login that was refused ------------------------------------------------------------------

# When the password is right again, work gets in before something else that lasts has ended.
$f->sql(q{SELECT fleet.create_package('lasts'), fleet.add_task('lasts', 't', sql => 'SELECT pg_sleep(14)')});
for my $server (qw(a1 d1))
{
    $f->sql_on($server, q{ALTER ROLE etl PASSWORD 'another'});
    $f->proxy->ctl('kill', $server);
    $f->run_is($f->start("on $server"), 'failed', "$server: the password has been changed there");
    is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE package = 'on $server' ORDER BY run_id DESC LIMIT 1"), '28P01', '… as the task says');
    $f->sql_on($server, "ALTER ROLE etl PASSWORD '$FleetTest::PASSWORD'");
    my $lasts = $f->start('lasts');
    $f->run_is($f->start("on $server"), 'succeeded', "$server: and is put right");
    isnt($f->sql("SELECT state FROM fleet.run WHERE run_id = $lasts"), 'succeeded', '… and that is noticed soon');
    $f->sql("SELECT fleet.cancel_run($lasts)");
    $f->run_is($lasts, 'canceled', 'what lasts is canceled');
}

# ---- resolvers ---------------------------------------------------------------------------------

sub resolvers
{
    return grep { my $title = eval { slurp_file("/proc/$_/cmdline") } // ''; $title =~ /pg_fleet resolver/ } $f->processes('parent');
}
sub no_resolver
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $f->_wait_for_file(sub { !resolvers() }, 'no resolver is left', $name);
}
$f->sql(sprintf q{SELECT fleet.add_server('named', 'host=localhost port=%d dbname=%s sslmode=disable', username => 'etl', password => '%s', mode => 'direct')},
    $f->node('d1')->port, $FleetTest::DB, $FleetTest::PASSWORD);
$f->package('on named', t => { job => 'noop', server => 'named' });
for my $end ('is terminated', 'raises an ERROR')
{
    my $agent = $f->agent_pid;
    $f->run_is($f->start('on named'), 'succeeded', 'a server with a name');
    cmp_ok(scalar resolvers(), '>', 0, '… which a resolver has looked up');
    if ($end eq 'is terminated') { $f->sql("SELECT pg_terminate_backend($agent)"); }
    else { $f->point('parent', 'agent_before_messages', 'error'); $f->sql(q{SELECT fleet_catalog.wake('servers', 0)}); }
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT AND pid <> $agent", '1', "the agent $end");
    no_resolver("… and its resolver ends with it, when it $end");
}
$f->sql(q{SELECT fleet.drop_package('on named'); SELECT fleet.remove_server('named')});

# ---- file descriptors --------------------------------------------------------------------------

# 64 files: a third of what is left of them is for 40 servers.
my @many = map { ("a1_$_", "d1_$_") } 1 .. 20;
for my $server (@many)
{
    my ($where) = $server =~ /^(..)/;
    $f->sql(sprintf q{SELECT fleet.add_server('%s', '%s', username => 'etl', password => '%s', mode => '%s', slots => 1, groups => '{many}')},
        $server, $f->conninfo($where), $FleetTest::PASSWORD, $where eq 'a1' ? 'agent' : 'direct');
}
$f->package('everywhere', map { ($_ => { job => 'noop', server => $_ }) } @many);
my $agent = $f->agent_pid;
my $done = "SELECT count(*) FROM fleet.task_run WHERE run_id = %d AND state = 'succeeded'";
for my $time ('first', 'again')
{
    $run = $f->start('everywhere');
    $f->run_is($run, 'succeeded', "$time: each of 40 servers gets a task");
    is($f->sql(sprintf $done, $run), '40', "$time: … and each succeeds");
}

# As many as there are descriptors for hold theirs; the others wait, and say for what.
for my $node (qw(a1 d1)) { $f->sql_on($node, 'CREATE FUNCTION public.hold() RETURNS void LANGUAGE sql AS $$SELECT pg_advisory_xact_lock_shared(4404)$$'); }
$f->job('hold', 'SELECT public.hold()');
$f->package('held', map { ($_ => { job => 'hold', server => $_ }) } @many);
my %holder = map { $_ => $f->node($_)->background_psql($FleetTest::DB) } qw(a1 d1);
$_->query_safe('SELECT pg_advisory_lock(4404)') for values %holder;
$run = $f->start('held');
$f->wait_for('parent', q{SELECT count(*) > 0 FROM fleet.server_status WHERE state = 'suspect' AND last_error LIKE 'no file descriptor is left%'}, 't', 'some servers are suspect, for want of a file descriptor');
$f->wait_for('parent', "SELECT count(*) > 0 FROM fleet.task_run WHERE run_id = $run AND state = 'running'", 't', 'others work');
$f->sql(q{SELECT fleet.create_package('here'), fleet.add_task('here', 't', sql => 'SELECT 1')});
$f->run_is($f->start('here'), 'succeeded', 'so does what runs here');
$_->query_safe('SELECT pg_advisory_unlock(4404)') for values %holder;
$_->quit for values %holder;
$f->run_is($run, 'succeeded', 'when they are done, the others have their turn');
is($f->sql(sprintf $done, $run), '40', '… all 40, nothing is lost');
is($f->agent_pid, $agent, 'the same agent all the time');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.server_status WHERE state = 'suspect'}, '0', 'no server is suspect in the end');

# ---- memory ------------------------------------------------------------------------------------

# What is asked for by altering servers, or by being a parent, is given back.
my $parents = 0;
sub flat
{
    my ($node, $what, $do) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $do->(20);
    my ($before) = $f->agent_memory($node);
    $do->(200);
    my ($after) = $f->agent_memory($node);
    note "$what: $before bytes, then ", $after - $before, ' more';
    return cmp_ok($after - $before, '<', 30000, "$node: its agent's memory is flat while $what");
}
flat('parent', 'servers are altered', sub {
    my ($n) = @_;
    $f->sql("SELECT fleet.alter_server('a1_1', groups => ARRAY['many', 'group ' || $_ % 2])") for 1 .. $n;
});
flat('a1', 'new parents ask', sub {
    my ($n) = @_;
    my $ended = q{SELECT count(*) FROM fleet.job_run WHERE state = 'succeeded'};
    my $expected = $f->sql_on('a1', $ended) + $n;
    $f->sql_on('a1', 'SET ROLE etl; ' . join '; ', map {
        my $parent = sprintf '00000000-0000-4000-8000-%012d', ++$parents;
        "SELECT fleet_link.agent_hello(2, '$parent', 1, 'parent'); "
          . "SELECT fleet_link.agent_start('$parent', 1, ARRAY[gen_random_uuid()], '{noop}', ARRAY['{}']::jsonb[])" } 1 .. $n);
    $f->wait_for('a1', $ended, $expected, "$n new parents have had a job run");
});

$f->done;
