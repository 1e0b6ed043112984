# Who waits for a run is in nobody's way: CALL fleet.wait() and CALL fleet.execute_package() hold no
# snapshot and no lock meanwhile, so that CREATE INDEX CONCURRENTLY as a task ends while its requester
# waits for it.  SELECT fleet.wait_for_run() is a query and holds its snapshot: what has to wait for
# that says so in its log.
use strict;
use warnings;
use FleetTest;
use IPC::Run;
use Test::More;

my $f = FleetTest->new(delays => 0);
$f->sql('CREATE ROLE other LOGIN');
$f->sql('SET ROLE etl; CREATE TABLE etl.t AS SELECT i FROM generate_series(1, 10) AS i');

# psql with a statement, in the background; which session it is, once it waits.
my $n = 0;
sub waits
{
    my ($query, %opt) = @_;
    my $mark = 'waiter ' . ++$n;
    my $p = { in => '', out => '', err => '' };
    $p->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $f->parent->connstr($FleetTest::DB) . " application_name='$mark'", '-v', 'VERBOSITY=verbose', '-v', 'ON_ERROR_STOP=1',
            map { ('-c', $_) } @{ $opt{first} || [] }, $query ], '<', \$p->{in}, '>', \$p->{out}, '2>', \$p->{err});
    $f->wait_for('parent', "SELECT wait_event FROM pg_stat_activity WHERE application_name = '$mark'", 'Extension', "it waits: $query");
    $p->{pid} = $f->sql("SELECT pid FROM pg_stat_activity WHERE application_name = '$mark'");
    return $p;
}
sub ends { my ($p) = @_; my $ok = $p->{run}->finish; return $ok ? 0 : 1; }

# The test must not be in the way either.
sub succeeds { my ($run, $name) = @_; is($f->sql("CALL fleet.wait($run, timeout => '${FleetTest::PATIENCE}s')"), 'succeeded', $name) or diag($f->dump_run($run)); return; }

# What a session holds that something could have to wait for.
my $HOLDS = q{SELECT coalesce(a.backend_xmin::text, 'no snapshot') || ', ' || coalesce(a.backend_xid::text, 'no id') || ', '
    || (SELECT coalesce(string_agg(coalesce(l.relation::regclass::text, l.locktype), ' ' ORDER BY 1), '') FROM pg_locks AS l WHERE l.pid = a.pid) FROM pg_stat_activity AS a WHERE pid = };
my $NOTHING = 'no snapshot, no id, virtualxid';

# ---- nothing is held ---------------------------------------------------------------------------

my @gate = (-params => '{"key": null}');
$f->package('index', @gate, gate => { sql => 'SELECT etl.work_until_released()' }, index => { sql => 'CREATE INDEX CONCURRENTLY ON etl.t (i)', after => '{gate}' },
    vacuum => { sql => 'VACUUM etl.t', after => '{index}' });
$f->sql(q{SELECT fleet.create_package('none'), fleet.add_task('none', 't', sql => 'SELECT 1')});

my %how = (
    'fleet.wait'       => sub { my ($run) = @_; return waits("CALL fleet.wait($run)"); },
    'in a DO block'    => sub { my ($run) = @_; return waits("DO \$\$DECLARE s text; BEGIN CALL fleet.wait($run, NULL, s); RAISE INFO '%', s; END\$\$"); },
    'repeatable read'  => sub { my ($run) = @_; return waits("CALL fleet.wait($run, timeout => '1h')", first => [ q{SET default_transaction_isolation = 'repeatable read'} ]); },
    'serializable'     => sub { my ($run) = @_; return waits("CALL fleet.wait($run)", first => [ q{SET default_transaction_isolation = 'serializable'} ]); },
);
for my $how (sort keys %how)
{
    my $run = $f->start('index', qq({"key": "$how"}));
    $f->wait_started($how);
    my $p = $how{$how}->($run);
    is($f->sql($HOLDS . $p->{pid}), $NOTHING, "$how: it holds nothing");
    $f->release($how);
    is(ends($p), 0, "$how: it ends");
    like($p->{out} . $p->{err}, qr/^(?:INFO:  00000: )?succeeded$/m, "$how: and says how the run ended");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 'index'"), 'succeeded', "$how: an index was made concurrently meanwhile");
}
my $p = { in => '', out => '', err => '' };
$p = waits(q{CALL fleet.execute_package('index', params => '{"key": "here"}')});
$f->wait_started('here');
is($f->sql($HOLDS . $p->{pid}), $NOTHING, 'execute_package: it holds nothing');
$f->release('here');
is(ends($p), 0, 'execute_package: an index can be made concurrently, and it succeeds') or diag($p->{err});

# a step that waits for another run
my $inner = $f->start('index', '{"key": "inner"}');
$f->sql("SELECT fleet.create_package('step'), fleet.add_task('step', 't', sql => 'CALL fleet.wait($inner)')");
my $outer = $f->start('step');
$f->wait_started('inner');
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%' AND query LIKE 'CALL fleet.wait%' AND wait_event = 'Extension'}, '1', 'a step waits');
$f->release('inner');
succeeds($outer, 'a step may wait for a run');

# ---- its ends ----------------------------------------------------------------------------------

my $run = $f->start('index', '{"key": "ends"}');
$f->wait_started('ends');
is($f->sql("CALL fleet.wait($run, timeout => '10ms')"), '', 'after the timeout there is no state');
is($f->sql("CALL fleet.wait($run, timeout => '0')"), '', 'nor after none at all');
$p = waits("CALL fleet.wait($run)");
$f->sql("SELECT pg_cancel_backend($p->{pid})");
isnt(ends($p), 0, 'a canceled wait is an ERROR');
like($p->{err}, qr/^ERROR:  57014:/m, '… with its SQLSTATE');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', '… and the run goes on');
$p = waits("CALL fleet.wait($run)");
$f->sql("SELECT pg_terminate_backend($p->{pid})");
isnt(ends($p), 0, 'a wait whose session is terminated ends');

# agents come and go: by an error of theirs, and ended
$p = waits("CALL fleet.wait($run)");
my $agent = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', qq{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw' AND pid <> $agent}, '1', 'the agent is lost, and another one there');
is($f->sql($HOLDS . $p->{pid}), $NOTHING, 'whoever waits holds nothing still');
$f->release('ends');
is(ends($p), 0, '… and hears from the new agent');
is($p->{out}, "succeeded\n", '… how the run ended');
is($f->sql("CALL fleet.wait($run)"), 'succeeded', 'a run that has ended is not waited for');

# ---- what it refuses ---------------------------------------------------------------------------

for my $case (
    [ 'NULL' => '22004', 'no run' ],
    [ '1000000000' => '42704', 'a run that there is not', 'run 1000000000 does not exist' ],
    [ "$run, timeout => '-1s'" => '22023', 'a negative timeout' ],
    [ "$run, timeout => '100 years'" => '22023', 'a timeout without sense' ])
{
    my ($args, $sqlstate, $name, $like) = @$case;
    $f->fails("CALL fleet.wait($args)", $sqlstate, $name, help => 1, like => $like);
}
$f->fails("CALL fleet.wait($run)", '42704', q{somebody else's run}, as => 'other', like => "run $run does not exist");
my $BLOCK = 'fleet\.wait\(\) cannot run inside a transaction block';
$f->fails("BEGIN; CALL fleet.wait($run)", '25001', 'in a transaction block', like => $BLOCK, help => 1);
$f->fails("DO \$\$DECLARE s text; BEGIN CALL fleet.wait($run, NULL, s); EXCEPTION WHEN division_by_zero THEN NULL; END\$\$", '25001', 'in a block that catches exceptions', like => $BLOCK, help => 1);
$f->sql("CREATE FUNCTION etl.waits() RETURNS text LANGUAGE plpgsql AS \$\$DECLARE s text; BEGIN CALL fleet.wait($run, NULL, s); RETURN s; END\$\$");
$f->fails('SELECT etl.waits()', '25001', 'in a function', like => $BLOCK, help => 1);
$f->fails(q{DO $$DECLARE s text; BEGIN CALL fleet.wait(fleet.run_parent_package('none'), NULL, s); END$$}, '55000', 'a run that is not committed', like => 'has not been committed yet', help => 1);
is($f->sql(q{SELECT count(*) FROM fleet.run WHERE package = 'none'}), '0', '… and is not then');
$f->fails(q{CALL fleet_link.watch_run(NULL, NULL, NULL)}, '22004', 'watch_run: no run', help => 1);
$f->fails("BEGIN; CALL fleet_link.watch_run($run, NULL, NULL)", '25001', 'watch_run: in a transaction block', help => 1);

# ---- a query that waits ------------------------------------------------------------------------
#
# It holds its snapshot; so would one that looks for changes only.  Whoever has it to wait for says who.

for my $query (qw(wait_for_run wait_for_change))
{
    $run = $f->start('index', qq({"key": "$query"}));
    $f->wait_started($query);
    my $other = $f->start('index', qq({"key": "other $query"}));
    $f->wait_started("other $query");
    $p = waits("SELECT fleet.$query($other)");
    isnt($f->sql($HOLDS . $p->{pid}), $NOTHING, "$query: it holds a snapshot");
    $f->release($query);
    $f->wait_for('parent', "SELECT string_agg(level || ' ' || sqlstate || ' ' || message, '; ') FROM fleet.log WHERE run_id = $run AND level = 'WARNING'",
        "WARNING 01000 the step waits for session $p->{pid}, which waits for run $other and holds a snapshot", "$query: the log says for whom the step waits");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 'index'"), 'running', "$query: as long as it does");
    $f->sql("SELECT pg_terminate_backend($p->{pid})");
    ends($p);
    $f->release("other $query"); # its own transaction holds a snapshot too
    succeeds($run, "$query: and then it goes on");
    is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND level = 'WARNING'"), '1', "$query: it was said once");
    succeeds($other, "$query: the run that was waited for");
}
# a table that it has locked, likewise
$run = $f->start('index', '{"key": "locked"}');
$f->wait_started('locked');
$p = waits("BEGIN; LOCK etl.t IN SHARE MODE; SELECT fleet.wait_for_run($run)");
$f->sql(q{SELECT fleet.create_package('insert'), fleet.add_task('insert', 't', sql => 'INSERT INTO etl.t VALUES (1)')});
my $blocked = $f->start('insert');
$f->wait_for('parent', "SELECT message FROM fleet.log WHERE run_id = $blocked AND level = 'WARNING'", "the step waits for session $p->{pid}, which waits for run $run and holds a snapshot", 'a step that waits for a table which that session has locked');
$f->sql("SELECT pg_terminate_backend($p->{pid})");
ends($p);
succeeds($blocked, '… goes on when it has gone');
$f->release('locked');
succeeds($run, 'and so does the other');

$f->done;
