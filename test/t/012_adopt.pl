# The agent ends under running steps: the steps go on where they are, the next agent adopts them.
# Nothing is run twice, no work is lost, and the log is as if nothing had happened.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(delays => 0);    # a runner might lose patience
my $witness = 'host=127.0.0.1 port=' . $f->node('witness')->port . ' dbname=witness user=witness password=witness';

$f->sql(<<"SQL");
-- Talks all the time until it is released, also while there is no agent.
CREATE FUNCTION etl.talk(what text) RETURNS integer LANGUAGE plpgsql AS \$\$
DECLARE
    released boolean := false;
    n integer := 0;
BEGIN
    PERFORM etl.witness('start');
    WHILE NOT released LOOP
        n := n + 1;
        RAISE NOTICE '% %', what, n;
        SELECT t.n > 0 INTO released FROM public.dblink('$witness',
            format('SELECT count(*) FROM event WHERE what = ''release'' AND key IN (%L, ''*'')', etl.key())) AS t(n bigint);
        PERFORM pg_sleep(0.02);
    END LOOP;
    PERFORM etl.witness('end');
    RETURN n;
END \$\$;
CREATE FUNCTION etl.quiet() RETURNS integer LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    RAISE NOTICE 'before';
    PERFORM pg_advisory_xact_lock(4712);
    RAISE NOTICE 'after';
    RETURN 1;
END \$\$;
CREATE PROCEDURE etl.talk_and_commit() LANGUAGE plpgsql AS \$\$
BEGIN
    INSERT INTO etl.effect VALUES (etl.key());
    COMMIT;
    PERFORM etl.talk('procedure');
    INSERT INTO etl.effect VALUES (etl.key());
    COMMIT;
END \$\$;
CREATE FUNCTION etl.talk_at_commit() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.talk('commit');
    RETURN NULL;
END \$\$;
CREATE TABLE etl.deferred (key text);
CREATE CONSTRAINT TRIGGER talk AFTER INSERT ON etl.deferred DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION etl.talk_at_commit();
CREATE TABLE etl.indexed (a integer);
SQL

# Ends the agent, as often as asked, and waits for its successor.
sub end_agent
{
    my ($times) = @_;
    for (1 .. $times || 1)
    {
        my $pid = $f->agent_pid;
        $f->sql("SELECT pg_terminate_backend($pid)");
        $f->wait_for('parent', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_fleet agent' AND pid <> $pid AND state = 'idle'", 't',
            'the next agent is there');
    }
    return;
}

# Lines of a run's log, without those that say that a step starts or ends.
sub lines
{
    my ($run) = @_;
    return split /\n/, $f->sql("SELECT message FROM fleet_catalog.log_line WHERE run_id = $run ORDER BY seq");
}

# One run of one task, whose agent ends while it talks.
sub talks_through
{
    my ($name, $word, $command, %opt) = @_;
    my $key = $name;
    $f->package($name, -params => '{"key": null}', task => { sql => $command });
    my $run = $f->start($name, qq({"key": "$key"}));
    ok($f->wait_started($key), "$name: started");
    my $before = $f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND message LIKE '$word %'");
    my $pid = $f->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner' AND state <> 'idle'});
    end_agent($opt{times});
    # it still runs, and the new agent hears it
    $f->wait_for('parent', "SELECT count(*) > $before FROM fleet.log WHERE run_id = $run AND message LIKE '$word %'", 't',
        "$name: the next agent hears it while it runs");
    is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', "$name: it still runs");
    if ($opt{cancel})
    {
        $f->sql("SELECT fleet.cancel_run($run)");
        $f->run_is($run, 'canceled', "$name: canceled through the next agent");
    }
    else
    {
        $f->release($key);
        $f->run_is($run, 'succeeded', "$name: succeeded");
    }
    is($f->witnessed($key, 'start'), 1, "$name: ran once");
    is($f->witnessed($key, 'end'), $opt{cancel} ? 0 : 1, $opt{cancel} ? "$name: not to its end" : "$name: to its end");
    is($f->sql("SELECT string_agg(backend_pid::text, ',') FROM fleet_catalog.step_run WHERE run_id = $run"), $pid, "$name: one attempt, in one session");
    my @lines = grep { /^$word / } lines($run);
    my @expected = map { "$word $_" } 1 .. @lines;
    is_deeply(\@lines, \@expected, "$name: its lines are there, in order, once each (" . @lines . ')');
    cmp_ok(scalar @lines, '>', 1, "$name: there are lines");
    is($f->sql("SELECT max(seq) - min(seq) + 1 - count(*) FROM fleet.log WHERE run_id = $run AND task = 'task'"), 0, "$name: no gap in the log");
    is($f->effects('parent', $key), $opt{effects}, "$name: effects") if defined $opt{effects};
    return $run;
}

my $run = talks_through('transaction', 'function', q{INSERT INTO etl.effect VALUES (etl.key()); SELECT etl.talk('function')}, effects => 1);
is($f->sql("SELECT output = (SELECT count(*)::text FROM fleet_catalog.log_line AS l WHERE l.run_id = r.run_id) FROM fleet.task_run AS r WHERE run_id = $run"), 't',
    'the returned value knows how many lines there were');
talks_through('thrice', 'function', q{INSERT INTO etl.effect VALUES (etl.key()); SELECT etl.talk('function')}, times => 3, effects => 1);
talks_through('procedure', 'procedure', 'CALL etl.talk_and_commit()', effects => 2);
talks_through('deferred', 'commit', q{INSERT INTO etl.effect VALUES (etl.key()); INSERT INTO etl.deferred VALUES ('x')}, effects => 1);
talks_through('stopped', 'function', q{INSERT INTO etl.effect VALUES (etl.key()); SELECT etl.talk('function')}, cancel => 1, effects => 0);

# what it said and did while nobody was there: the next agent is held back until the command has ended
for my $case ([ 'quiet', 'SELECT etl.quiet()', q{SELECT state FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner'}, 'idle in transaction' ],
    [ 'vacuum', 'CREATE INDEX CONCURRENTLY indexed_a ON etl.indexed (a)', q{SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('etl.indexed_a')}, 't' ])
{
    my ($name, $command, $query, $ended) = @$case;
    my $holder = $f->parent->background_psql($FleetTest::DB);
    $holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(4712); LOCK TABLE etl.indexed IN ROW EXCLUSIVE MODE');
    $f->package($name, -params => '{"key": null}', task => { sql => $command });
    my $run = $f->start($name, qq({"key": "$name"}));
    $f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_fleet runner' AND wait_event_type = 'Lock'}, '1', "$name: it waits");
    $f->wait_for('parent', "SELECT count(*) FROM fleet_catalog.step_run WHERE run_id = $run AND backend_pid IS NOT NULL", '1', "$name: its session is stored");
    my $agent = $f->agent_pid;
    $f->point('parent', 'agent_moved_in', 'wait');
    is($holder->query_safe("SELECT pg_terminate_backend($agent, 10000)"), 't', "$name: the agent ends");
    $holder->quit;
    $f->point_waits('parent', 'agent_moved_in', "$name: the next one is there, and has read nothing");
    $f->wait_for('parent', $query, $ended, "$name: the command ends meanwhile");
    $f->point_release('parent', 'agent_moved_in');
    $f->run_is($run, 'succeeded', "$name: its end is picked up");
    is($f->sql("SELECT string_agg(attempt || ' ' || state, ',') FROM fleet.job_log WHERE run_id = $run"), '1 succeeded', "$name: one attempt");
    is($f->witnessed($name, 'start'), 1, "$name: ran once") if $name eq 'quiet';
    is(join(' ', lines($run)), 'before after', "$name: the log") if $name eq 'quiet';
    is($f->sql("SELECT row_count || ' ' || output FROM fleet.task_run WHERE run_id = $run"), '1 1', "$name: the value") if $name eq 'quiet';
}

# A for_each whose runner, or whose agent, ends in the middle of its rows: all items, each once.
for my $case ([ 'runner', 'exit 3' ], [ 'agent', 'wait 3' ])
{
    my ($who, $word) = @$case;
    my $name = "items_$who";
    $f->package($name, items => { sql => 'SELECT etl.work()', throttle => 3,
        for_each => qq{SELECT jsonb_build_object('key', '$name-' || i) FROM generate_series(1, 10) AS i} });
    $f->point('parent', 'runner_query_row', $word);
    my $run = $f->start($name);
    if ($who eq 'agent')
    {
        $f->point_waits('parent', 'runner_query_row', "$name: two rows are there");
        end_agent();
        $f->point_release('parent', 'runner_query_row');
    }
    else
    {
        $f->point_fired('parent', 'runner_query_row', "$name: the runner ended at the third row");
    }
    $f->run_is($run, 'succeeded', "$name: succeeded");
    is($f->sql("SELECT string_agg(concat_ws(' ', item, params ->> 'key', attempt, state), ',' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND item > 0"),
        join(',', map { "$_ $name-$_ 1 succeeded" } 1 .. 10), "$name: ten items, each once, in their order");
    is($f->sql_on('witness', "SELECT count(*) || ' ' || count(DISTINCT key) FROM event WHERE key LIKE '$name-%' AND what = 'start'"), '10 10', "$name: each ran once");
    is($f->sql("SELECT count(*) || ' ' || count(DISTINCT key) FROM etl.effect WHERE key LIKE '$name-%'"), '10 10', "$name: with one effect");
}

# a job of several steps stays one session
$f->sql('GRANT CREATE ON DATABASE ' . $FleetTest::DB . ' TO etl');
$f->sql_as('etl', <<'SQL');
SELECT fleet.create_job('session', params => '{"key": null}');
SELECT fleet.add_step('session', 'one', 'CREATE TEMP TABLE mine AS SELECT 7 AS a');
SELECT fleet.add_step('session', 'two', $$SELECT etl.talk('job')$$);
SELECT fleet.add_step('session', 'three', 'SELECT a FROM mine');
SQL
my $job = $f->sql_as('etl', q{SELECT fleet.start_job('session', params => '{"key": "session"}')});
ok($f->wait_started('session'), 'job: its second step runs');
end_agent();
$f->release('session');
$f->wait_for('parent', "SELECT state || coalesce(' ' || message, '') FROM fleet.job_run WHERE job_run_id = $job", 'succeeded', 'job: succeeded');
is($f->sql("SELECT count(DISTINCT backend_pid) || ' ' || count(*) FROM fleet_catalog.step_run WHERE job_run_id = $job"), '1 3', 'job: one session');
is($f->sql("SELECT output FROM fleet_catalog.step_run WHERE job_run_id = $job AND step_no = 3"), '7', 'job: its third step sees what the first one made');
is($f->witnessed('session', 'start'), 1, 'job: ran once');

# the agent is only stopped: nothing happens to its runner
{
    $f->package('sigstop', -params => '{"key": null}', task => { sql => q{SELECT etl.talk('function')} });
    my $run = $f->start('sigstop', '{"key": "sigstop"}');
    ok($f->wait_started('sigstop'), 'SIGSTOP: started');
    my $agent = $f->agent_pid;
    kill 'STOP', $agent;
    $f->release('sigstop');
    $f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'sigstop' AND what = 'end'}, '1', 'SIGSTOP: the step goes on');
    kill 'CONT', $agent;
    $f->run_is($run, 'succeeded', 'SIGSTOP: succeeded');
    is($f->witnessed('sigstop', 'start'), 1, 'SIGSTOP: ran once');
}

# no agent may come back: the runner does not stay either
{
    $f->parent->safe_psql('postgres', 'CREATE DATABASE dropped');
    $f->parent->safe_psql('dropped', 'CREATE EXTENSION pg_fleet');
    $f->parent->safe_psql('dropped', q{SELECT fleet.create_package('sleeps'); SELECT fleet.add_task('sleeps', 'task', sql => 'SELECT pg_sleep(3600)'); SELECT fleet.run_parent_package('sleeps')});
    $f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'dropped' AND backend_type = 'pg_fleet runner' AND wait_event = 'PgSleep'}, '1', 'DROP DATABASE: a step runs there');
    my ($rc, $out, $err) = $f->try_as(undef, 'DROP DATABASE dropped', db => 'postgres');
    is($rc, 0, 'DROP DATABASE: succeeds under a running step') or diag($err);
    $f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'dropped'}, '0', 'DROP DATABASE: no worker is left');
}
$f->done;
