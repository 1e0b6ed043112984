# Mode agent and mode direct give the same rows for the same job: outcomes, errors, counts, values,
# log lines in order; and a line is there while the step that said it still runs.
use strict;
use warnings;
use FleetTest;
use Test::More;
use Time::HiRes qw(time);

my $f = FleetTest->new(agents => 1, direct => 1);
for my $server (qw(a1 d1))
{
    $f->sql_on($server, <<'SQL');
SET ROLE etl;
CREATE TABLE etl.item (id int PRIMARY KEY, name text);
CREATE FUNCTION etl.talk(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..n LOOP
        RAISE NOTICE 'line %', i;
    END LOOP;
    RAISE WARNING 'careful' USING DETAIL = 'some detail', HINT = 'some hint', ERRCODE = '01F01';
    RAISE INFO 'for your information';
    RETURN n;
END $$;
CREATE FUNCTION etl.raise_it() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'it went wrong' USING ERRCODE = 'ZX123', DETAIL = 'a detail', HINT = 'a hint';
END $$;
SQL
}

my %jobs = (
    value     => ["SELECT 'one value'"],
    nothing   => [q{CREATE TABLE IF NOT EXISTS etl.made (i int)}],
    count     => ["INSERT INTO etl.item SELECT i, 'n' || i FROM generate_series(1, 25) AS i ON CONFLICT DO NOTHING"],
    talk      => ['SELECT etl.talk(20)'],
    several   => ["SELECT 1; UPDATE etl.item SET name = 'x' WHERE id <= 7; SELECT 'last' UNION ALL SELECT 'row'"],
    wide      => ['SELECT i, i * 2 FROM generate_series(1, 3) AS i'],
    null      => ['SELECT NULL::int'],
    unicode   => ["SELECT 'Grüße, 世界 😀'", 'DO $$BEGIN RAISE NOTICE \'Zeile mit „Anführung“ und \\ und \'\'quote\'\'\'; END$$'],
    raise     => ['SELECT etl.raise_it()'],
    divide    => ['SELECT 1 / 0'],
    duplicate => ["INSERT INTO etl.item VALUES (500, 'a'); INSERT INTO etl.item VALUES (500, 'b')"],
    deferred  => ['CREATE TEMP TABLE c (i int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO c VALUES (1), (1)'],
    missing   => ['SELECT * FROM etl.no_such_table'],
    param     => [q{SELECT current_setting('fleet.params')::jsonb ->> 'region'}],
    retried   => [ { sql => 'SELECT 1 / 0', retries => 2, retry_wait => '50ms', retry_sqlstates => '{22012}' } ],
    hopeless  => [ { sql => 'SELECT 1 / 0', retries => 2, retry_wait => '50ms' } ],
    go_on     => [ { sql => 'SELECT 1 / 0', on_failure => 'next' }, "SELECT 'went on'" ],
    quit      => [ { sql => 'SELECT 1', on_success => 'quit_success' }, 'SELECT 2' ],
    vacuum    => ['VACUUM etl.item'],
    two       => ["SET work_mem = '7MB'", 'SHOW work_mem'],
    timeout   => [ { sql => 'SELECT pg_sleep(600)', timeout => '200ms' } ],
    left_open => [ { sql => q{BEGIN; INSERT INTO etl.item VALUES (600, 'left')}, transactional => 'false' } ],
    own_end   => [q{INSERT INTO etl.effect VALUES ('own end'); COMMIT}],
);
# what becomes of the task: state, SQLSTATE, message, value, rows
my %expected = (
    value     => 'succeeded|||one value|1',
    nothing   => 'succeeded||||',
    count     => 'succeeded||||25',
    talk      => 'succeeded|||20|1',
    several   => 'succeeded|||last|2',
    wide      => 'succeeded|||1|3',
    null      => 'succeeded||||1',
    unicode   => 'succeeded||||',
    raise     => 'failed|ZX123|it went wrong||',
    divide    => 'failed|22012|division by zero||',
    duplicate => 'failed|23505|duplicate key value violates unique constraint "item_pkey"||',
    deferred  => 'failed|23505|duplicate key value violates unique constraint "c_i_key"||',
    missing   => 'failed|42P01|relation "etl.no_such_table" does not exist||',
    param     => 'succeeded|||north|1',
    retried   => 'failed|22012|division by zero||',
    hopeless  => 'failed|22012|division by zero||',
    go_on     => 'succeeded|||went on|1',
    quit      => 'succeeded|||1|1',
    vacuum    => 'succeeded||||',
    two       => 'succeeded|||7MB|',
    timeout   => 'failed|57014|the step was stopped because of its timeout||',
    left_open => 'succeeded||||1',
    own_end   => 'succeeded||||',
);
# how many rows each has in the log of jobs, and the states of these
my %attempts = (
    (map { $_ => 'succeeded' } qw(value nothing count talk several wide null param quit vacuum left_open own_end)),
    (map { $_ => 'failed' } qw(raise divide duplicate deferred missing hopeless timeout)),
    retried => 'failed,failed,failed',
    go_on => 'failed,succeeded',
    unicode => 'succeeded,succeeded',
    two => 'succeeded,succeeded',
);

my @tasks;
for my $name (sort keys %jobs)
{
    $f->job($name, @{ $jobs{$name} });
    push @tasks, map { ("${name}_on_$_" => { job => $name, server => $_, $name eq 'several' ? (after => "{count_on_$_}") : () }) } qw(a1 d1);
}
$f->package('both', -params => '{"region": "north", "key": "k"}', @tasks);
my $run = $f->start('both');
$f->run_is($run, 'failed', 'the run ends, failed because some of its tasks do');

for my $name (sort keys %jobs)
{
    for my $server (qw(a1 d1))
    {
        my $task = "task = '${name}_on_$server'";
        is($f->sql("SELECT concat_ws('|', state, coalesce(sqlstate, ''), coalesce(message, ''), coalesce(output, ''), coalesce(row_count::text, '')) FROM fleet.task_run WHERE run_id = $run AND $task"),
            $expected{$name}, "$name on $server: outcome, error, value, rows");
        is($f->sql("SELECT string_agg(state, ',' ORDER BY started_at) FROM fleet.job_log WHERE run_id = $run AND $task AND server = '$server' AND job = '$name'"),
            $attempts{$name}, "$name on $server: each attempt of each step has its row");
    }
}
for my $server (qw(a1 d1))
{
    is($f->sql("SELECT concat_ws('|', sqlstate, message, detail, hint) FROM fleet.job_log WHERE run_id = $run AND task = 'raise_on_$server'"),
        'ZX123|it went wrong|a detail|a hint', "$server: detail and hint are the step's own");
    like($f->sql("SELECT context FROM fleet.job_log WHERE run_id = $run AND task = 'raise_on_$server'"),
        qr/^PL\/pgSQL function raise_it\(\) line 3 at RAISE/, "$server: so is the context");
    is($f->sql("SELECT string_agg(concat_ws('|', level, sqlstate, message, detail, hint), ';' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND task = 'talk_on_$server' AND level NOT IN ('NOTICE', 'ERROR') AND message NOT LIKE 'step %'"),
        'WARNING|01F01|careful|some detail|some hint;INFO|00000|for your information', "$server: a warning keeps its SQLSTATE, detail and hint");
    is($f->sql("SELECT string_agg(level || ' ' || coalesce(sqlstate, '-') || ' ' || message, ';' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND task = 'divide_on_$server'"),
        'INFO - step "s1" started;ERROR 22012 division by zero', "$server: the error is told once");
    is($f->sql("SELECT string_agg(task || ': ' || concat_ws('|', level, sqlstate, message), ';' ORDER BY task) FROM fleet.log WHERE run_id = $run AND task IN ('left_open_on_$server', 'own_end_on_$server') AND message NOT LIKE 'step %'"),
        "left_open_on_$server: WARNING|01000|the step left a transaction open, which was rolled back;"
          . "own_end_on_$server: WARNING|25P01|there is no transaction in progress", "$server: what a step does with its transaction is told");
    is($f->effects($server, 'own end'), 1, "$server: what it has committed stays, once");
    is($f->sql("SELECT output FROM fleet.job_log WHERE run_id = $run AND task = 'unicode_on_$server' AND step = 's1'"), "Gr\xc3\xbc\xc3\x9fe, \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x98\x80",
        "$server: characters of all lengths");
    # ground truth: what is in the child's own tables
    is($f->sql_on($server, q{SELECT count(*) || ' ' || count(*) FILTER (WHERE name = 'x') || ' ' || count(*) FILTER (WHERE id = 500) FROM etl.item}), '25 7 0', "$server: what was done there, and nothing of what failed");
    is($f->sql_on($server, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND state = 'active'}), '0', "$server: what ran out of its time does not go on");
}

# The same rows but for times, places and identities, column by column, whatever columns there are.
my @differs = qw(run_id task_no job_run_id server token queued_at started_at finished_at logged_at duration elapsed
  server_id backend_pid xid step_run_id log_id id seen_at);
my $drop = join ' ', map { "- '$_'" } @differs;
for my $relation (
    [ 'task_run', 'task, item' ],
    [ 'job_log', 'task, item, started_at, step, attempt' ],
    [ 'step_run', 'task, item, started_at, step, attempt' ],
    [ 'log', 'task, item, seq' ])
{
    my ($table, $order) = @$relation;
    my $rows = sub {
        my ($server) = @_;
        return $f->sql("SELECT regexp_replace((to_jsonb(t) $drop)::text, '_on_(a|d)1', '', 'g') FROM fleet.$table AS t "
              . "WHERE run_id = $run AND task LIKE '%\\_on\\_$server' ORDER BY $order");
    };
    my @agent = split /\n/, $rows->('a1');
    my @direct = split /\n/, $rows->('d1');
    my $many = { task_run => scalar keys %jobs, job_log => 28, step_run => 28 }->{$table};
    is(scalar @agent, $many, "fleet.$table has its rows") if $many;
    is_deeply(\@direct, \@agent, "fleet.$table: the same in both modes");
}

# log lines: in order, gapless, once each
for my $server (qw(a1 d1))
{
    is($f->sql("SELECT string_agg(message, ' ' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND task = 'talk_on_$server' AND level = 'NOTICE'"),
        join(' ', map { "line $_" } 1 .. 20), "$server: NOTICEs in order");
    is($f->sql("SELECT count(*) FROM (SELECT seq - row_number() OVER (PARTITION BY task, item ORDER BY seq) AS d, task, item FROM fleet.log WHERE run_id = $run AND task LIKE '%$server') AS x GROUP BY task, item HAVING min(d) <> max(d)"),
        '', "$server: without gap or duplicate");
    is($f->sql("SELECT count(*) FROM (SELECT task FROM fleet.log WHERE run_id = $run AND task LIKE '%$server' GROUP BY task HAVING min(seq) = 1) AS x"), scalar keys %jobs, "$server: from 1 on");
}

# ---- a line is there while its step still runs -------------------------------------------------

$f->job('sleepy', q{DO $$BEGIN RAISE NOTICE 'said before sleeping %', etl.key(); END$$; SELECT etl.work_until_released()});
for my $place (qw(here a1 d1))
{
    $f->package("live_$place", -params => '{"key": null}',
        t => $place eq 'here'
        ? { sql => q{DO $$BEGIN RAISE NOTICE 'said before sleeping %', etl.key(); END$$; SELECT etl.work_until_released()} }
        : { job => 'sleepy', server => $place });
    my $key = "live-$place";
    $run = $f->start("live_$place", "{\"key\": \"$key\"}");
    $f->wait_started($key);
    my $begin = time;
    $f->wait_for('parent', "SELECT count(*) FROM fleet.log WHERE run_id = $run AND message = 'said before sleeping $key'", '1',
        "$place: the NOTICE is in the log");
    note sprintf '%s: seen %.3f s after the step told the witness', $place, time - $begin;
    is($f->witnessed($key, 'end'), 0, "$place: while the step still sleeps");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'running', "$place: and is running");
    is($f->sql("SELECT started_at BETWEEN queued_at AND clock_timestamp() AND finished_at IS NULL FROM fleet.task_run WHERE run_id = $run"), 't', "$place: with its start time");
    $f->release($key);
    $f->run_is($run, 'succeeded', "$place: then it ends");
    is($f->sql("SELECT string_agg(level || ' ' || message, ';' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND level = 'NOTICE'"), "NOTICE said before sleeping $key", "$place: the line is there once");
    is($f->witnessed($key, 'start'), 1, "$place: started once");
}

# ---- several addresses of one server -----------------------------------------------------------

# libpq's lists, with blanks and elements left out: the first of them refuses, the second is the server.
my $dead = PostgreSQL::Test::Cluster::get_free_port();
my $live = $f->port_of('d1');
my %lists = (
    'names'            => "host='localhost,127.0.0.1' port='$dead,$live'",
    'addresses'        => "host='no.such.host.invalid, localhost' hostaddr='127.0.0.1,127.0.0.1' port='$dead,$live'",
    'the first is it'  => "host='127.0.0.1,127.0.0.2' port='$live,$dead'",
    'one of two ports' => "host='127.0.0.3,127.0.0.1' port='$live'");
for my $list (sort keys %lists)
{
    $f->sql(sprintf q{SELECT fleet.add_server('list', %s, username => 'etl', password => %s, mode => 'direct')},
        map { FleetTest::quote_literal($_) } "$lists{$list} dbname=$FleetTest::DB sslmode=disable", $FleetTest::PASSWORD);
    $f->package("list $list", t => { job => 'value', server => 'list' });
    $run = $f->start("list $list");
    $f->run_is($run, 'succeeded', "several addresses, $list: the job runs");
    is($f->sql("SELECT server || ' ' || output FROM fleet.task_run WHERE run_id = $run"), 'list one value', "several addresses, $list: there");
    $f->sql("SELECT fleet.drop_package('list $list'); SELECT fleet.remove_server('list')");
}

$f->done;
