# Every kind of step, on an agent, on a direct server and here: what psql would do with the same
# text, and nothing left for the next job.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

# One slot each, so that a job meets the session or runner that the one before has left.
my $f = FleetTest->new(agents => 1, direct => 1, slots => 1);
my @places = qw(a1 d1 here);
my $dir = PostgreSQL::Test::Utils::tempdir;
chmod 0777, $dir;

for my $server (qw(parent a1 d1))
{
    $f->sql_on($server, <<'SQL');
GRANT pg_write_server_files TO etl;
SET ROLE etl;
CREATE TABLE etl.big (id int, t text);
INSERT INTO etl.big SELECT i, md5(i::text) FROM generate_series(1, 1000) AS i;
CREATE TABLE etl.log (t text);
CREATE PROCEDURE etl.commits() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO etl.log VALUES ('first'); COMMIT;
    INSERT INTO etl.log VALUES ('second'); COMMIT;
END $$;
CREATE PROCEDURE etl.commits_and_fails() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO etl.log VALUES ('kept'); COMMIT;
    INSERT INTO etl.log VALUES ('not kept'); RAISE EXCEPTION 'after a commit';
END $$;
SQL
}
# here, jobs belong to etl too
$f->sql('GRANT CREATE ON DATABASE dw TO etl');

# One job in each place; the run's outcome and what is there afterwards.  "here" is a job of etl,
# started by itself.  The outcome is a state, and for failures the SQLSTATE and message behind it
# ("failed 22012 division by zero"; SESSION in it is a
# connection or a runner).
my $n = 0;

sub everywhere
{
    my ($name, $steps, $outcome, $check, $value, $job_state) = @_;
    my ($state, $sqlstate, $message) = split / /, $outcome, 3;
    $job_state ||= $state;
    die "$name: a failure without SQLSTATE" if $job_state ne 'succeeded' && !defined $message;
    $n++;
    my $job = "kind_$n";
    $f->job($job, @$steps);
    for my $place (@places)
    {
        my $package = "${job}_$place";
        my $session = $place eq 'd1' ? 'connection' : 'background worker "pg_fleet runner"';
        my $error = defined $message ? "$sqlstate " . ($message =~ s/SESSION/$session/r) : '';
        if ($place eq 'here')
        {
            # as a job of etl, started by itself
            $f->sql_as('etl', "SELECT fleet.create_job('$job\_here');"
                  . join '', map { my %s = ref $_ ? %$_ : (sql => $_);
                    my $c = FleetTest::quote_literal(delete $s{sql});
                    $n++; "SELECT fleet.add_step('$job\_here', 's$n', $c" . join('', map { ", $_ => " . FleetTest::quote_literal($s{$_}) } sort keys %s) . ');' } @$steps);
            my $id = $f->sql_as('etl', "SELECT fleet.start_job('$job\_here')");
            $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id AND finished_at IS NOT NULL", $job_state, "$name ($place): $job_state");
            is($f->sql("SELECT concat_ws(' ', sqlstate, message) FROM fleet.job_run WHERE job_run_id = $id"), $error, "$name ($place): by what");
        }
        else
        {
            $f->package($package, t => { job => $job, server => $place });
            my $run = $f->start($package);
            $f->run_is($run, $state, "$name ($place): $state");
            is($f->sql("SELECT concat_ws(' ', state, sqlstate, message) FROM fleet.task_run WHERE run_id = $run"), $job_state . ($error ne '' ? " $error" : ''), "$name ($place): the task is $job_state");
        }
        my $server = $place eq 'here' ? 'parent' : $place;
        is($f->sql_on($server, $check =~ s/PLACE/$place/gr), $value, "$name ($place): effect") if defined $check;
    }
    return;
}

everywhere('several statements are one transaction',
    ["INSERT INTO etl.log VALUES ('m1'); INSERT INTO etl.log VALUES ('m2')"], 'succeeded',
    q{SELECT count(DISTINCT xmin::text) || ' ' || count(*) FROM etl.log WHERE t IN ('m1', 'm2')}, '1 2');
everywhere('if one fails, none stays',
    ["INSERT INTO etl.log VALUES ('gone'); SELECT 1 / 0; INSERT INTO etl.log VALUES ('gone')"], 'failed 22012 division by zero',
    q{SELECT count(*) FROM etl.log WHERE t = 'gone'}, '0');
everywhere('VACUUM', ['VACUUM (ANALYZE) etl.big'], 'succeeded',
    q{SELECT reltuples FROM pg_class WHERE oid = 'etl.big'::regclass}, '1000');
everywhere('CREATE INDEX CONCURRENTLY', ['CREATE INDEX CONCURRENTLY big_id ON etl.big (id)'], 'succeeded',
    q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'etl.big_id'::regclass}, 't');
everywhere('a procedure that commits', ['CALL etl.commits()'], 'succeeded',
    q{SELECT count(DISTINCT xmin::text) || ' ' || count(*) FROM etl.log WHERE t IN ('first', 'second')}, '2 2');
everywhere('a procedure that commits and fails', ['CALL etl.commits_and_fails()'], 'failed P0001 after a commit',
    q{SELECT string_agg(t, ',') FROM etl.log WHERE t LIKE '%kept'}, 'kept');
everywhere('DO with COMMIT', [q{DO $$BEGIN INSERT INTO etl.log VALUES ('do1'); COMMIT; INSERT INTO etl.log VALUES ('do2'); END$$}], 'succeeded',
    q{SELECT count(*) FROM etl.log WHERE t LIKE 'do_'}, '2');
everywhere('BEGIN and COMMIT in the text', ["BEGIN; INSERT INTO etl.log VALUES ('tx1'); COMMIT; INSERT INTO etl.log VALUES ('tx2')"], 'succeeded',
    q{SELECT count(*) FROM etl.log WHERE t LIKE 'tx_'}, '2');
everywhere('a transaction left open is rolled back', ["BEGIN; INSERT INTO etl.log VALUES ('open')"], 'succeeded',
    q{SELECT count(*) FROM etl.log WHERE t = 'open'}, '0');
# as PostgreSQL says it since version 16, and before
my $no_program = $f->parent->pg_version >= 16 ? 'permission denied to COPY to or from an external program'
    : 'must be superuser or have privileges of the pg_execute_server_program role to COPY to or from an external program';
everywhere('COPY to a program, by a role that may not', [qq{COPY (SELECT 'copied') TO PROGRAM 'true'}],
    "failed 42501 $no_program");
everywhere('COPY to a file by a role that may', [qq{DO \$\$BEGIN EXECUTE format('COPY (SELECT ''copied'') TO %L', '$dir/' || pg_backend_pid()); END\$\$}], 'succeeded');
is(scalar(grep { slurp_file($_) eq "copied\n" } glob "$dir/*"), 3, 'three files were written');
$f->sql(q{SELECT fleet.create_job('refused')});
for (
    [ 'COPY etl.big TO STDOUT', '0A000', 'failed 0A000 COPY FROM STDIN and COPY TO STDOUT are not possible in a step' ],
    [ 'COPY etl.big FROM STDIN', '0A000', 'failed 0A000 COPY FROM STDIN and COPY TO STDOUT are not possible in a step' ],
    [ 'SELEC 1', '42601', 'failed 42601 syntax error at or near "SELEC"' ],
    [ '', '22023', undef ])
{
    my ($command, $sqlstate, $outcome) = @$_;
    $f->fails("SELECT fleet.add_step('refused', 's', '$command')", $sqlstate, "refused at once: $command", help => 1);
    # on a server of another version the parser may know better
    everywhere("unchecked: $command", [ { sql => $command, check_syntax => 'false' } ], $outcome) if $outcome;
}
is($f->sql(q{SELECT count(*) FROM fleet.step WHERE job = 'refused'}), '0', 'nothing that was refused is a step');
everywhere('a syntax error at run time', [q{DO $$BEGIN EXECUTE 'SELEC 1'; END$$}], 'failed 42601 syntax error at or near "SELEC"');
everywhere('a deferred constraint fails at COMMIT',
    ['CREATE TABLE etl.deferred (i int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO etl.deferred VALUES (1), (1)'], 'failed 23505 duplicate key value violates unique constraint "deferred_i_key"',
    q{SELECT to_regclass('etl.deferred') IS NULL}, 't');
everywhere('a step that ends its own session, marked to be outside of a transaction',
    [ { sql => 'SELECT pg_terminate_backend(pg_backend_pid())', transactional => 'false' } ], 'failed 57P01 terminating SESSION due to administrator command', undef, undef, 'unknown');

# Steps of one job share a session, as in psql.
everywhere('steps of one job are one session',
    [ 'CREATE TEMP TABLE own (i int)', 'INSERT INTO own VALUES (1)', q{INSERT INTO etl.log SELECT 'own' FROM own} ], 'succeeded',
    q{SELECT count(*) FROM etl.log WHERE t = 'own'}, '1');

# Jobs do not.
everywhere('a job that leaves everything behind',
    [   'CREATE TEMP TABLE left_over (i int)',
        q{SET work_mem = '77MB'; SET search_path = etl; SET my.setting = 'mine'; SET statement_timeout = '1h'; SET default_transaction_read_only = on},
        'SET default_transaction_read_only = off',
        'PREPARE left_statement AS SELECT 1',
        'DECLARE left_cursor CURSOR WITH HOLD FOR SELECT 1',
        # a background worker may not LISTEN at all
        q{DO $$BEGIN EXECUTE 'LISTEN left_channel'; EXCEPTION WHEN feature_not_supported THEN NULL; END$$},
        'SELECT pg_advisory_lock(4711)',
        'CREATE TEMP SEQUENCE left_sequence', q{SELECT nextval('left_sequence')} ],
    'succeeded');
everywhere('leaves nothing for the next one',
    [   q{INSERT INTO etl.log SELECT 'left: ' || concat_ws(' ',
            (SELECT count(*) FROM pg_class WHERE relname = 'left_over' AND pg_table_is_visible(oid)),
            (SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_statement'),
            (SELECT count(*) FROM pg_cursors WHERE name = 'left_cursor'),
            (SELECT count(*) FROM pg_listening_channels() AS c WHERE c = 'left_channel'),
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND objsubid = 1),
            coalesce(nullif(current_setting('my.setting', true), ''), 'none'),
            (SELECT setting = reset_val FROM pg_settings WHERE name = 'work_mem'),
            (SELECT setting = reset_val FROM pg_settings WHERE name = 'search_path'),
            (SELECT setting = reset_val FROM pg_settings WHERE name = 'statement_timeout'))} ],
    'succeeded', q{SELECT string_agg(t, ';') FROM etl.log WHERE t LIKE 'left: %'}, 'left: 0 0 0 0 0 none t t t');

# A job may say that it leaves nothing: then its session is not reset, which shows when it has left
# something after all.  After a failure the session is reset whatever the job says.
$f->job('says_clean', q{SELECT set_config('my.setting', 'left', false)});
$f->job('fails_clean', q{SELECT set_config('my.setting', 'left', false)}, 'SELECT 1/0');
$f->job('commit_fails', q{SELECT set_config('my.setting', 'left', false)},
    'CREATE TEMP TABLE twice (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)', 'INSERT INTO twice VALUES (1), (1)');
$f->job('reads_setting', q{INSERT INTO etl.log SELECT 'seen: ' || coalesce(nullif(current_setting('my.setting', true), ''), 'none')});
for my $job (qw(says_clean fails_clean commit_fails))
{
    $f->sql("SELECT fleet.alter_job('$job', leaves_clean => true)");
    $f->deploy($job);
}
for my $place (qw(a1 d1))
{
    for (
        [ 'says_clean', 'succeeded', 'left', 'a session is not reset after a job that says so' ],
        [ 'reads_setting', 'succeeded', 'none', 'it is after any other job' ],
        [ 'fails_clean', 'failed', 'none', 'it is after a job that failed' ],
        [ 'commit_fails', 'failed', 'none', 'it is after a job whose last COMMIT failed' ])
    {
        my ($job, $state, $seen, $name) = @$_;
        for my $j ($job, 'reads_setting')
        {
            $f->package("${j}_$place", t => { job => $j, server => $place })
              unless $f->sql("SELECT count(*) FROM fleet.package WHERE package = '${j}_$place'");
        }
        $f->run_is($f->start("${job}_$place"), $state, "$place: $job");
        $f->sql_on($place, 'TRUNCATE etl.log');
        $f->run_is($f->start("reads_setting_$place"), 'succeeded', "$place: reads_setting");
        is($f->sql_on($place, 'SELECT t FROM etl.log'), "seen: $seen", "$place: $name");
    }
}

# A session that is not reset keeps our own prepared statement; a job that deallocates it does no harm.
$f->job('reads_prepared', q{INSERT INTO etl.log SELECT 'ours: ' || count(*) FROM pg_prepared_statements WHERE name = 'pg_fleet_enter'});
$f->job('deallocates', 'DEALLOCATE ALL');
$f->sql("SELECT fleet.alter_job('$_', leaves_clean => true)") for qw(reads_prepared deallocates);
$f->package("${_}_d1", t => { job => $_, server => 'd1' }) for qw(reads_prepared deallocates);
$f->sql_on('d1', 'TRUNCATE etl.log');
$f->run_is($f->start("${_}_d1"), 'succeeded', "d1: $_") for qw(reads_prepared reads_prepared deallocates reads_prepared reads_prepared);
is($f->sql_on('d1', q{SELECT string_agg(t, ', ') FROM etl.log}), 'ours: 0, ours: 1, ours: 1, ours: 1',
    'd1: our statement is kept, lost, and made again');

everywhere('a step that deallocates everything leaves the job its session',
    [   'CREATE TEMP TABLE kept (i int)', 'INSERT INTO kept VALUES (1)', 'DEALLOCATE ALL', 'INSERT INTO kept VALUES (2)',
        q{INSERT INTO etl.log SELECT 'kept: ' || count(*) FROM kept} ],
    'succeeded', q{SELECT string_agg(t, ';') FROM etl.log WHERE t LIKE 'kept: %'}, 'kept: 2');

# Who a step is.
everywhere('a step is its owner, whatever it resets',
    [ q{RESET ROLE}, q{RESET SESSION AUTHORIZATION}, q{INSERT INTO etl.log SELECT 'who: ' || current_user || ' ' || session_user} ],
    'succeeded', q{SELECT t FROM etl.log WHERE t LIKE 'who: %'}, 'who: etl etl');

# Much output is capped, not fatal.
everywhere('a value of 10 MB', [q{SELECT repeat('x', 10000000)}], 'succeeded');
is($f->sql(qq{SELECT string_agg(DISTINCT length(output)::text, ',') FROM fleet.$_ WHERE job LIKE 'kind\\_$n%' OR job LIKE 'kind\\_} . ($n - 1) . q{%'}), '65536', "a value of 10 MB: 64 kB of it are kept ($_)") for qw(task_run job_run);
everywhere('100,000 rows', ['SELECT * FROM generate_series(1, 100000)'], 'succeeded');
is($f->sql(qq{SELECT string_agg(DISTINCT row_count || ' ' || output, ',') FROM fleet.$_ WHERE job LIKE 'kind\\_$n%' OR job LIKE 'kind\\_} . ($n - 1) . q{%'}), '100000 1', "100,000 rows: counted, the first one kept ($_)") for qw(task_run job_run);
everywhere('20,000 notices', [q{DO $$BEGIN FOR i IN 1..20000 LOOP RAISE NOTICE '%', i; END LOOP; END$$}], 'succeeded');
# the first 10,000 in order, then how many there were besides
is($f->sql(q{SELECT string_agg(DISTINCT lines || ' ' || first || ' ' || last || ' ' || ordered, ',') FROM (
        SELECT count(*) AS lines, min(message::int) AS first, max(message::int) AS last, bool_and(message::int = seq - 1) AS ordered
          FROM fleet.log WHERE level = 'NOTICE' AND message ~ '^\d+$' GROUP BY run_id, job_run_id, task, item HAVING count(*) > 100) AS x}),
    '10000 1 10000 true', '20,000 notices: the first 10,000 of them are kept, in order');
is($f->sql(q{SELECT count(*) FROM fleet.log WHERE level = 'WARNING' AND message LIKE '%10000%'}), '3', '20,000 notices: one line says how many are not');

# A step that kills its own session: transactional, so it surely had no effect; it must not be tried
# for ever, and must not take the agent with it.
everywhere('a step that ends its own session',
    [ q{INSERT INTO etl.log VALUES ('suicide'); SELECT pg_terminate_backend(pg_backend_pid())} ], 'failed 57P01 terminating SESSION due to administrator command',
    q{SELECT count(*) FROM etl.log WHERE t = 'suicide'}, '0');
everywhere('and the next job runs', ['SELECT 1'], 'succeeded');

# An action by name of a step, a failure branch, a task's own retries.
$f->job('branches',
    { name => 'try', sql => 'SELECT 1 / 0', failure_goto => 'clean up' },
    { name => 'never', sql => q{SELECT etl.witness('never')} },
    { name => 'clean up', sql => q{SELECT etl.witness('cleaned')}, on_success => 'quit_failure' });
for my $place (qw(a1 d1))
{
    $f->package("branches_$place", -params => "{\"key\": \"br-$place\"}", t => { job => 'branches', server => $place });
    $f->run_is($f->start("branches_$place"), 'failed', "$place: a failure branch of steps, ending in failure");
    is($f->witnessed("br-$place", 'cleaned'), 1, "$place: went to the named step");
    is($f->witnessed("br-$place", 'never'), 0, "$place: and not through the others");
}

# Precedence between tasks.
$f->job('ok', 'SELECT etl.work()');
$f->job('bad', 'SELECT 1 / 0');
$f->package('graph', -params => '{"key": "graph"}',
    good      => { job => 'ok', server => 'a1' },
    evil      => { job => 'bad', server => 'd1' },
    on_ok     => { sql => q{SELECT etl.witness('on_ok')}, after => '{good}' },
    on_fail   => { sql => q{SELECT etl.witness('on_fail')} },
    on_any    => { sql => q{SELECT etl.witness('on_any')} },
    not_this  => { sql => q{SELECT etl.witness('not_this')}, after => '{evil}' },
    nor_this  => { sql => q{SELECT etl.witness('nor_this')}, after => '{not_this}' });
$f->sql(q{SELECT fleet.add_precedence('graph', 'evil', 'on_fail', on_outcome => 'failure'), fleet.add_precedence('graph', 'evil', 'on_any', on_outcome => 'completion')});
my $run = $f->start('graph');
$f->run_is($run, 'succeeded', 'a failed task that an edge handles does not fail the run');
is($f->sql("SELECT string_agg(task || '=' || state, ' ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run"),
    'evil=failed good=succeeded nor_this=skipped not_this=skipped on_any=succeeded on_fail=succeeded on_ok=succeeded',
    'success, failure, completion; what cannot run any more is skipped');
$f->package('unhandled', -params => '{"key": "unhandled"}',
    evil => { job => 'bad', server => 'd1' },
    next => { sql => q{SELECT etl.witness('next')}, after => '{evil}' });
$run = $f->start('unhandled');
$f->run_is($run, 'failed', 'one that no edge handles does');
is($f->witnessed('unhandled', 'next'), 0, 'and what needs its success does not run');

$f->done;
