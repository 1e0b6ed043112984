# Steps that commit by themselves (guarantee 4): what they do before their first COMMIT is done once.
# Witness: a sequence, which no rollback takes back.  All three executors: SQL and jobs that run
# here, mode agent, mode direct.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, slots => 2, preload => 1);
my @places = qw(parent a1 d1);
my $setup = <<'SQL';
CREATE TABLE etl.once (run_key text);
CREATE SEQUENCE etl.begun;
CREATE PROCEDURE etl.commits() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('etl.begun');
    INSERT INTO etl.once VALUES ('a');
    COMMIT;
    INSERT INTO etl.once VALUES ('b');
END $$;
CREATE PROCEDURE etl."Odd ""name"()  LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('etl.begun'); COMMIT; END $$;
CREATE PROCEDURE etl.outer() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('etl.begun'); CALL etl.middle(1); END $$;
CREATE PROCEDURE etl.middle(i int) LANGUAGE plpgsql AS $$ BEGIN CALL etl.commits(); END $$;
CREATE PROCEDURE etl.round(i int) LANGUAGE plpgsql AS $$
BEGIN PERFORM nextval('etl.begun'); IF i > 0 THEN CALL etl.round(i - 1); END IF; END $$;
-- More names than are looked at: the one that commits is the last.
DO $do$
BEGIN
    FOR i IN 1..40 LOOP
        EXECUTE format('CREATE PROCEDURE etl.p%s() LANGUAGE plpgsql AS $$ BEGIN END $$', i);
    END LOOP;
    EXECUTE format('CREATE PROCEDURE etl.hidden() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval(''etl.begun''); %s CALL etl.commits(); END $$',
        (SELECT string_agg(format('CALL etl.p%s();', i), ' ' ORDER BY i) FROM generate_series(1, 40) AS i));
END $do$;
CREATE PROCEDURE etl.says() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('etl.begun'); RAISE NOTICE '%', 'COMMIT; -- ROLLBACK;'; END $$;
CREATE SCHEMA other;
GRANT USAGE ON SCHEMA other TO PUBLIC;
CREATE PROCEDURE other.same() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('etl.begun'); COMMIT; END $$;
CREATE PROCEDURE etl.same() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('etl.begun'); END $$;
GRANT ALL ON ALL TABLES IN SCHEMA etl TO etl;
GRANT ALL ON ALL SEQUENCES IN SCHEMA etl TO etl;
SQL
$f->sql_on($_, $setup) for @places;

# What was drawn, and what is there, since the last look.
sub begun
{
    my ($place) = @_;
    return $f->sql_on($place, q{SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM etl.begun});
}
sub anew { my ($place) = @_; $f->sql_on($place, 'ALTER SEQUENCE etl.begun RESTART; TRUNCATE etl.once'); return; }

# name => [command, values drawn, does it run in a transaction of ours]
my %command = (
    called    => ['CALL etl.commits()', 1, 0],
    quoted    => [q{CALL "etl"."Odd ""name"()}, 1, 0],
    deep      => ['CALL etl.outer()', 2, 0],
    round     => ['CALL etl.round(3)', 4, 1],
    block     => [q{DO $$ BEGIN PERFORM nextval('etl.begun'); COMMIT; INSERT INTO etl.once VALUES ('c'); END $$}, 1, 0],
    calls     => [q{DO $$ BEGIN PERFORM nextval('etl.begun'); CALL etl.commits(); END $$}, 2, 0],
    harmless  => ['CALL etl.says()', 1, 1],
    comment   => [q{DO $$ BEGIN /* COMMIT; */ PERFORM nextval('etl.begun'); END $$}, 1, 1],
    by_schema => ['CALL etl.same()', 1, 1],
    the_other => ['CALL other.same()', 1, 0],
);
for my $name (sort keys %command)
{
    $f->job($name, $command{$name}[0]);
    $f->package("${name}_parent", t => { job => $name });
    $f->package("${name}_$_", t => { job => $name, server => $_ }) for qw(a1 d1);
    $f->package("${name}_sql", t => { sql => $command{$name}[0] });
    my (undef, $values, $transactional) = @{ $command{$name} };
    for my $where (qw(parent sql a1 d1))
    {
        my $place = $where eq 'sql' ? 'parent' : $where;
        anew($place);
        my $run = $f->start("${name}_$where");
        $f->run_is($run, 'succeeded', "$name, $where");
        is(begun($place), $values, '… and what it did before its COMMIT was done once');
        my $at = $where eq 'a1' ? 'a1' : 'parent';
        my $of = $where eq 'a1' ? 's.job_run_id = (SELECT max(job_run_id) FROM fleet_catalog.job_run)' : "s.run_id = $run";
        is($f->sql_on($at, "SELECT count(s.xid) FROM fleet_catalog.step_run AS s WHERE $of"), $transactional, $transactional ? '… in a transaction of ours' : '… without one');
    }
}

# ---- what only its error tells is remembered ---------------------------------------------------

$f->job('hidden', 'CALL etl.hidden()');
$f->package('hidden_parent', t => { job => 'hidden' });
$f->package("hidden_$_", t => { job => 'hidden', server => $_ }) for qw(a1 d1);
for my $place (@places)
{
    anew($place);
    $f->run_is($f->start("hidden_$place"), 'succeeded', "one of more procedures than are looked at, $place");
    is(begun($place), 4, '… is found out by its error: twice, this once');
    $f->run_is($f->start("hidden_$place"), 'succeeded', '… and again');
    is(begun($place), 6, '… is known by now');
    my $agent = $place eq 'a1' ? 'a1' : 'parent';
    my $pid = $f->agent_pid($agent);
    $f->sql_on($agent, "SELECT pg_terminate_backend($pid)");
    $f->run_is($f->start("hidden_$place"), 'succeeded', '… with another agent');
    isnt($f->agent_pid($agent), $pid, '… which is one');
    is(begun($place), 8, '… which knows it too');
}
is($f->sql('SELECT count(*), count(DISTINCT server_id) FROM fleet_catalog.commits_itself'), '2|2', 'here, and at the direct server');
is($f->sql_on('a1', 'SELECT count(*), min(server_id) FROM fleet_catalog.commits_itself'), '1|0', 'and that of mode agent knows its own');

# A procedure that is changed while the last look is remembered is found out by its error.
$f->run_is($f->start('harmless_d1'), 'succeeded', 'it does not commit');
anew('d1');
$f->sql_on('d1', q{CREATE OR REPLACE PROCEDURE etl.says() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('etl.begun'); COMMIT; END $$});
$f->run_is($f->start('harmless_d1'), 'succeeded', 'it commits from now on');
is(begun('d1'), 2, '… found out');
$f->run_is($f->start('harmless_d1'), 'succeeded', '… once');
is(begun('d1'), 3, '… and known');

# A role that may not look at pg_proc has its steps done all the same.
$f->sql_on('d1', 'REVOKE SELECT ON pg_catalog.pg_proc FROM PUBLIC');
anew('d1');
$f->job('unseen', 'CALL etl.same(); ');
$f->package('unseen', t => { job => 'unseen', server => 'd1' });
$f->run_is($f->start('unseen'), 'succeeded', 'pg_proc cannot be read there');
is(begun('d1'), 1, '… and the step was done');
$f->sql_on('d1', 'GRANT SELECT ON pg_catalog.pg_proc TO PUBLIC');

# ---- a session that is to be reset is, whichever way the step went ------------------------------

$f->job('leaves', q{SET fleet_test.kept = 'x'});
$f->job('finds', q{DO $$ BEGIN INSERT INTO etl.once VALUES (coalesce(current_setting('fleet_test.kept', true), 'null')); COMMIT; END $$});
for my $place (qw(parent d1))
{
    anew($place);
    my @on = $place eq 'parent' ? () : (server => $place);
    $f->package("session_$place", a => { job => 'leaves', @on }, b => { job => 'finds', @on, after => '{a}' });
    $f->run_is($f->start("session_$place"), 'succeeded', "two jobs, one session, $place");
    is($f->sql_on($place, q{SELECT count(*) FROM etl.once WHERE run_key = 'x'}), '0', '… and the second sees nothing of the first');
}

# ---- marked ------------------------------------------------------------------------------------

for my $place (@places)
{
    anew($place);
    my @on = $place eq 'parent' ? () : (server => $place);
    $f->job("strict_$place", { sql => 'CALL etl.commits()', transactional => 'true' });
    $f->package("strict_$place", t => { job => "strict_$place", @on });
    my $run = $f->start("strict_$place");
    $f->run_is($run, 'failed', "marked as transactional, $place");
    is($f->sql("SELECT sqlstate, message FROM fleet.task_run WHERE run_id = $run"), '25001|the step is marked as transactional, and cannot run in a transaction', '… fails for that reason');
    is(begun($place), '0', '… and was not begun');
    like($f->sql("SELECT hint FROM fleet.job_log WHERE run_id = $run AND hint IS NOT NULL"), qr/Leave "transactional" null/, '… with a hint');
}
$f->package('sql_no', t => { sql => 'CALL etl.commits()', transactional => 'false' });
$f->package('sql_yes', t => { sql => 'CALL etl.commits()', transactional => 'true' });
anew('parent');
$f->run_is($f->start('sql_no'), 'succeeded', 'SQL of a task, marked as not transactional');
is(begun('parent'), 1, '… once');
my $run = $f->start('sql_yes');
$f->run_is($run, 'failed', 'SQL of a task, marked as transactional');
is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE run_id = $run"), '25001', '… cannot be');

# ---- several commands in one session -----------------------------------------------------------

$f->package('together', t => { sql => 'SET search_path TO etl; CALL commits()' });
$run = $f->start('together');
$f->run_is($run, 'failed', 'SET, then a procedure that commits, as one text');
is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE run_id = $run"), '2D000', '… is one transaction');
like($f->sql("SELECT hint FROM fleet.job_log WHERE run_id = $run AND hint IS NOT NULL"), qr/a step of its own/, '… and the hint says what to do');
$f->job('apart', 'SET search_path TO etl', 'CALL commits()', 'VACUUM once', 'CALL commits()');
for my $place (@places)
{
    anew($place);
    my @on = $place eq 'parent' ? () : (server => $place);
    $f->package("apart_$place", t => { job => 'apart', @on });
    $f->run_is($f->start("apart_$place"), 'succeeded', "as steps of a job, $place");
    is(begun($place), 2, '… each once, in one session');
}

# A name without a schema is looked for as the call itself does.
$f->job('by_path', 'SET search_path TO etl', 'CALL same()', 'SET search_path TO other', 'CALL same()');
for my $place (qw(parent d1))
{
    my @on = $place eq 'parent' ? () : (server => $place);
    $f->package("by_path_$place", t => { job => 'by_path', @on });
    $run = $f->start("by_path_$place");
    $f->run_is($run, 'succeeded', "two procedures of one name, $place");
    is($f->sql("SELECT string_agg((xid IS NOT NULL)::text, ' ' ORDER BY step_no) FROM fleet_catalog.step_run WHERE run_id = $run"),
        'true true true false', '… of which one commits');
}

# ---- a job that runs here ----------------------------------------------------------------------

$f->sql_as('etl', q{SELECT fleet.create_job('params', params => '{"a": 1, "b": 2}'); SELECT fleet.add_step('params', 's', $$SELECT current_setting('fleet.params') || current_user$$)});
$f->package('here', t => { job => 'params', params => '{"b": 3}' });
$run = $f->start('here');
$f->run_is($run, 'succeeded', 'a job without a server');
is($f->sql("SELECT server IS NULL, output FROM fleet.task_run WHERE run_id = $run"), 't|{"a": 1, "b": 3}etl', '… runs here, as its owner, with its defaults');
$f->sql('CREATE ROLE nobody_in_particular LOGIN');
$f->sql_as('nobody_in_particular', q{SELECT fleet.create_package('not_mine'); SELECT fleet.add_task('not_mine', 't', job => 'params')});
$run = $f->sql_as('nobody_in_particular', q{SELECT fleet.run_parent_package('not_mine')});
$f->run_is($run, 'failed', 'the job of a role that one is not a member of');
is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE run_id = $run"), '42501', '… is not run');
$f->package('gone', t => { job => 'gone_job' });
$f->fails(q{SELECT fleet.run_parent_package('gone')}, '42704', 'a job that is not defined', like => qr/job "gone_job" does not exist/, help => 1);
$f->sql(q{SELECT fleet.create_job('nests'); SELECT fleet.create_package('inner'); SELECT fleet.add_task('inner', 'i', sql => 'SELECT 1'); SELECT fleet.add_step('nests', 's', package => 'inner')});
$f->package('nests', t => { job => 'nests' });
$run = $f->start('nests');
$f->run_is($run, 'failed', 'a step that runs a package');
is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE run_id = $run"), '0A000', '… is for servers of mode agent');
is($f->sql(q{SELECT count(*) FROM fleet.plan('here')}), '1', 'it can be planned');

$f->done;
