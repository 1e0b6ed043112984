# Counters (fleet.stat, fleet.stat_server): they say what the rows of the history say, whatever ended and however often the agent did on the
# way; they stay when the history goes, are seen by whom the history is, and their table stays small.  (test build)
use strict;
use warnings;
use FleetTest qw(quote_literal);
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, witness => 0, delays => 0);
$f->sql(q{CREATE ROLE reads LOGIN; GRANT pg_monitor TO reads; CREATE ROLE operates LOGIN; GRANT fleet_operator TO operates; CREATE ROLE alice LOGIN});

# What the history says, in the columns of fleet.stat.  (Nothing is purged, reset or started once more before it is compared.)
my $outcomes = join ', ', map { "count(*) FILTER (WHERE state = '$_') AS tasks_$_" } qw(succeeded failed canceled skipped lost unknown);
my $of_tasks = "$outcomes, coalesce(sum(greatest(attempt - 1, 0)), 0) AS retries, count(*) FILTER (WHERE attempt > 0) AS begun";
my $by_rows = qq{
    SELECT r.package, r.runs, t.tasks, t.retries, t.begun, l.lines FROM
      (SELECT package, count(*) FILTER (WHERE state = 'succeeded') || '/' || count(*) FILTER (WHERE state = 'failed') || '/' || count(*) FILTER (WHERE state = 'canceled') AS runs
         FROM fleet.run WHERE package IS NOT NULL GROUP BY 1) AS r
      JOIN (SELECT package, concat_ws('/', tasks_succeeded, tasks_failed, tasks_canceled, tasks_skipped, tasks_lost, tasks_unknown) AS tasks, retries, begun
              FROM (SELECT package, $of_tasks FROM fleet.task_run GROUP BY 1) AS o) AS t USING (package)
      LEFT JOIN (SELECT n.package, count(*) AS lines FROM fleet_catalog.log_line AS l JOIN fleet_catalog.run AS n USING (run_id) GROUP BY 1) AS l USING (package)};
my $by_stat = q{
    SELECT package, concat_ws('/', runs_succeeded, runs_failed, runs_canceled), concat_ws('/', tasks_succeeded, tasks_failed, tasks_canceled, tasks_skipped, tasks_lost, tasks_unknown),
           retries, wait_buckets[14], nullif(log_lines, 0) FROM fleet.stat WHERE scope = 'package'};
my $server_rows = qq{
    SELECT server, concat_ws('/', tasks_succeeded, tasks_failed, tasks_canceled, tasks_skipped, tasks_lost, tasks_unknown) FROM
      (SELECT server, $of_tasks FROM fleet.task_run WHERE attempt > 0 GROUP BY 1) AS o};
my $server_stat = q{SELECT server, concat_ws('/', tasks_succeeded, tasks_failed, tasks_canceled, tasks_skipped, tasks_lost, tasks_unknown) FROM fleet.stat_server
    WHERE tasks_succeeded + tasks_failed + tasks_canceled + tasks_skipped + tasks_lost + tasks_unknown > 0};
my $sorted = sub { my ($query) = @_; return $f->sql("SELECT * FROM ($query) AS q ORDER BY 1 NULLS FIRST"); };
sub counters_agree
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($sorted->($by_stat), $sorted->($by_rows), "$name: by package");
    is($sorted->($server_stat), $sorted->($server_rows), "$name: by server");
    return;
}
sub value { my ($columns, $package) = @_; return $f->sql("SELECT $columns FROM fleet.stat WHERE " . (defined $package ? 'package = ' . quote_literal($package) : q{scope = 'all'})); }

is($f->sql(q{SELECT scope, runs_succeeded, tasks_succeeded, wait_buckets[14], since IS NULL FROM fleet.stat}), 'all|0|0|0|t', 'before the first agent there is the whole, and nothing in it');
is($f->sql(q{SELECT cardinality(fleet.stat_bounds()) || ' ' || (fleet.stat_bounds())[1] || ' ' || (fleet.stat_bounds())[13]}), '13 0.001 28800', 'bounds of the buckets');

# ---- what ended how ----------------------------------------------------------------------------

$f->sql('CREATE SEQUENCE etl.tries; GRANT ALL ON SEQUENCE etl.tries TO PUBLIC');
$f->job('work', q{DO $$ BEGIN RAISE NOTICE 'one'; RAISE NOTICE 'two'; END $$});
$f->job('bad', 'SELECT 1 / 0');
my $fails_twice = q{SELECT 1 / (nextval('etl.tries') / 3)};
$f->package('inner', one => { sql => 'SELECT 1' }, two => { job => 'work', server => 'd1', after => '{one}' });
$f->package('well', a => { job => 'work', server => 'a1' }, d => { job => 'work', server => 'd1' }, n => { nested => 'inner' },
    each => { job => 'work', on_group => 'all', for_each => 'SELECT i FROM generate_series(1, 40) AS i', after => '{a}' },
    box => { container => 'true' }, 'box/in' => { sql => 'SELECT 1' });
$f->package('ill', bad => { job => 'bad', server => 'd1' }, after => { sql => 'SELECT 1', after => '{bad}' }, no_items => { sql => 'SELECT 1', for_each => 'SELECT 1 / 0' });
$f->package('again', t => { sql => $fails_twice, retries => 5, retry_wait => '1ms', retry_sqlstates => '{22012}' });
$f->package('at_once', t => { job => 'bad', server => 'a1', retries => 2, retry_wait => '0s', retry_sqlstates => '{22012}' });
$f->package('long', t => { sql => 'SELECT pg_sleep(600)' }, next => { sql => 'SELECT 1', after => '{t}' });

$f->run_is($f->start('well'), 'succeeded', 'a run');
$f->run_is($f->start('ill'), 'failed', 'a run that fails');
$f->run_is($f->start('again'), 'succeeded', 'a run with retries');
$f->run_is($f->start('at_once'), 'failed', 'retries that follow at once');
my $long = $f->start('long');
$f->wait_for('parent', q{SELECT tasks_running || ' ' || tasks_waiting || ' ' || runs_running FROM fleet.stat WHERE package = 'long'}, '1 1 1', 'what runs and what waits is a gauge');
is($f->sql(q{SELECT tasks_running FROM fleet.stat_server WHERE server IS NULL}), '1', '... by server too');
counters_agree('while a run is open');
$f->sql("SELECT fleet.cancel_run($long)");
$f->run_is($long, 'canceled', 'a run that is canceled');
counters_agree('what ended how');
is(value('tasks_succeeded, tasks_failed, retries, work_buckets[14]', 'again'), '1|0|2|3', 'retries: one outcome, two retries, three times of work');
is(value('tasks_running, tasks_waiting, runs_running, runs_queued'), '0|0|0|0', 'nothing runs or waits');
is($f->sql(q{SELECT string_agg(tasks_running::text, '') FROM fleet.stat_server}), '000', '... on no server');
is($f->sql(q{SELECT count(*) FROM (SELECT sum(x) FILTER (WHERE scope = 'all') AS a, sum(x) FILTER (WHERE scope <> 'all') AS b
    FROM (SELECT scope, unnest(ARRAY[runs_succeeded, tasks_succeeded, tasks_failed, retries, log_lines, work_buckets[14], wait_buckets[3]]) AS x,
                 generate_series(1, 7) AS i FROM fleet.stat) AS u GROUP BY i) AS s WHERE a IS DISTINCT FROM b}), '0', 'the whole is the sum');

my $late = $f->sql(q{SELECT fleet.run_parent_package('long', deadline => now() + interval '100 ms')});
$f->wait_for('parent', q{SELECT runs_late FROM fleet.stat WHERE package = 'long'}, '1', 'a run that is late');
$f->sql("SELECT fleet.cancel_run($late)");
$f->run_is($late, 'canceled', '... is canceled');

# Spans are those of the rows, to the microsecond: of tasks of one attempt.
$f->package('spans', t => { sql => 'SELECT pg_sleep(0.03)' }, e => { sql => 'SELECT 1', for_each => 'SELECT i FROM generate_series(1, 20) AS i' });
$f->run_is($f->start('spans'), 'succeeded', 'a run with spans');
my $spans = q{FROM fleet.task_run WHERE package = 'spans' AND attempt > 0};
is(value('round(work_seconds::numeric, 6), round(run_seconds::numeric, 6), round(run_wait_seconds::numeric, 6)', 'spans'),
    $f->sql("SELECT round(sum(extract(epoch FROM finished_at - started_at)), 6), (SELECT round(extract(epoch FROM finished_at - started_at), 6) || '|' || round(extract(epoch FROM started_at - queued_at), 6) FROM fleet.run WHERE package = 'spans') $spans"),
    'seconds of work, and those of its run, and how long it waited');
is(value('work_buckets', 'spans'), $f->sql("SELECT array_agg(n) FROM (SELECT (SELECT count(*) $spans AND extract(epoch FROM finished_at - started_at) <= b) AS n FROM unnest(fleet.stat_bounds() || 'Infinity'::float8) AS b) AS u"), 'in their buckets');
ok($f->sql(q{SELECT wait_seconds > 0 AND wait_seconds < run_seconds * 22 FROM fleet.stat WHERE package = 'spans'}), 'waiting is from when it could begin');

# ---- single jobs -------------------------------------------------------------------------------

my $job_run = $f->sql(q{SELECT fleet.start_job('work')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job_run", 'succeeded', 'a job by itself');
$job_run = $f->sql(q{SELECT fleet.start_job('bad', server => 'd1')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job_run", 'failed', 'one on a server');
$f->wait_for('parent', q{SELECT runs_succeeded || ' ' || runs_failed || ' ' || log_lines FROM fleet.stat WHERE scope = 'jobs'}, '1 1 2', 'single jobs are counted as such, and the lines that they said');
is($f->sql_on('a1', q{SELECT scope, runs_succeeded > 0, log_lines = 2 * runs_succeeded FROM fleet.stat WHERE scope = 'jobs'}), 'jobs|t|t', '... and so are those of a parent, over there');

# ---- agents that end ---------------------------------------------------------------------------

# Before a commit nothing of it is counted, after it all of it is: whoever ends the agent, and how.
for my $point (qw(agent_before_commit agent_after_commit))
{
    for my $word ('error', 'exit 2', 'error 3')
    {
        $f->point('parent', $point, $word);
        $f->run_is($f->start('well'), 'succeeded', "$point, $word: a run goes on");
        $f->wait_for('parent', q{SELECT tasks_running + tasks_waiting FROM fleet.stat WHERE scope = 'all'}, '0', '... and its end is counted');
        counters_agree("$point, $word");
    }
}
$f->point('parent', 'agent_before_commit', 'wait 4');
$f->sql(q{SELECT fleet.run_parent_package('well', run_key => 'killed')});
$f->point_waits('parent', 'agent_before_commit', 'the server crashes before a commit');
$f->forget('parent');
$f->parent->stop('immediate');
$f->point_release('parent', 'agent_before_commit');
$f->parent->start;
$f->sql(q{SELECT fleet_catalog.wake('servers', 0)});
$f->wait_for('parent', q{SELECT state FROM fleet.run WHERE run_key = 'killed'}, 'succeeded', '... and the run goes on');
counters_agree('after a crash of the server');

$long = $f->start('long');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $long AND task = 't'", 'running', 'a run is open');
my $before = $sorted->($by_stat);
$f->forget('parent');
$f->parent->restart;
$f->sql(q{SELECT fleet_catalog.wake('servers', 0)});
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $long AND task = 't'", 'running', 'after a restart it goes on');
isnt($before, '', 'counters are kept over a restart ...');
counters_agree('over a restart');
is(value('tasks_running, tasks_waiting'), '1|1', 'gauges are those of what is open');
is($f->sql(q{SELECT sum(tasks_running) FROM fleet.stat_server}), '1', '... on servers too');
$f->sql("SELECT fleet.cancel_run($long)");
$f->run_is($long, 'canceled', 'it is canceled');
is(value('tasks_running, tasks_waiting'), '0|0', '... and nothing waits or runs');

# ---- who sees what -----------------------------------------------------------------------------

$f->sql_as('etl', q{SELECT fleet.create_package('hers'); SELECT fleet.add_task('hers', 't', sql => 'SELECT 1')});
$f->run_is($f->sql_as('etl', q{SELECT fleet.run_parent_package('hers')}), 'succeeded', 'a run of another role');
my $seen = q{SELECT string_agg(coalesce(package, scope), ',' ORDER BY scope, package), (SELECT count(*) FROM fleet.stat_server) FROM fleet.stat};
is($f->sql_as('etl', $seen), 'all,hers|0', 'who owns a package sees its counters, and what they sum up to');
is($f->sql_as('etl', q{SELECT runs_succeeded FROM fleet.stat WHERE scope = 'all'}), '1', '... and nothing of the others is in it');
is($f->sql_as('alice', $seen), 'all|0', 'another role sees nothing');
is($f->sql_as('reads', $seen), $f->sql($seen), 'pg_monitor sees all');
$f->sql(q{GRANT USAGE ON FOREIGN SERVER d1 TO alice});
is($f->sql_as('alice', 'SELECT server FROM fleet.stat_server'), 'd1', 'who may use a server sees its counters');

# ---- history that goes -------------------------------------------------------------------------

$before = $sorted->($by_stat);
my $rows = $f->sql('SELECT count(*) FROM fleet_catalog.task_run');
$f->sql(q{SELECT fleet.purge(older_than => '0')});
$f->wait_for('parent', 'SELECT (SELECT count(*) FROM fleet_catalog.run) + (SELECT count(*) FROM fleet_catalog.task_run) + (SELECT count(*) FROM fleet_catalog.purge_request)', '0', 'all history is purged');
is($sorted->($by_stat), $before, 'it stays counted');
ok($f->sql("SELECT rows_purged > $rows FROM fleet.stat WHERE scope = 'all'"), '... and that it went is counted too');
$f->sql(q{SELECT fleet.drop_package('hers')});
is(value('runs_succeeded', 'hers'), '1', 'the counters of a package outlive it');

# ---- Prometheus ----------------------------------------------------------------------------------

# What the exporter gives is what the views say; the rules and the dashboard use nothing else.
SKIP:
{
    my ($exporter, $promtool) = ('/usr/bin/prometheus-postgres-exporter', '/usr/bin/promtool');
    for my $needed ($exporter, $promtool)
    {
        skip "$needed is not installed: test/setup.sh installs it where apt has it", 1 if !-x $needed;
    }
    my $folder = ($ENV{FLEET_TREE} || '.') . '/monitoring';
    $f->sql('CREATE ROLE watches LOGIN; GRANT fleet_reader TO watches');
    my $port = PostgreSQL::Test::Cluster::get_free_port();
    local $ENV{DATA_SOURCE_NAME} = 'host=' . $f->parent->host . ' port=' . $f->parent->port . " user=watches dbname=$FleetTest::DB sslmode=disable";
    my ($none, $said, $scrape) = ('', '', '');
    my $process = IPC::Run::start([ $exporter, "--web.listen-address=127.0.0.1:$port", "--extend.query-path=$folder/queries.yaml",
            qw(--disable-default-metrics --disable-settings-metrics --no-collector.database --no-collector.bgwriter) ], \$none, '>&', \$said);
    for (1 .. 20 * $FleetTest::PATIENCE)
    {
        my $got = HTTP::Tiny->new->get("http://127.0.0.1:$port/metrics");
        $scrape = $got->{content};
        last if $got->{success};
        select undef, undef, undef, 0.05;    # (time passes) until it listens
    }
    $process->pump_nb;
    unlike($said, qr/level=error|panic/, 'the exporter finds nothing wrong') or diag($said);
    $process->kill_kill;
    my %metric = map { /^(pg_fleet\S*?)(?:\{(.*)\})? (\S+)$/ ? (join('', $1, '{', join(',', grep { !/^server=/ } split /,(?=\w+=")/, $2 // ''), '}') => $3) : () } split /\n/, $scrape;
    like($scrape, qr/^pg_exporter_last_scrape_error 0$/m, 'nor does the scrape');

    my $values = sub { my ($kind, @names) = @_; return 'CROSS JOIN LATERAL (VALUES ' . join(', ', map { "('$_', s.${kind}_$_)" } @names) . ') AS o (outcome, n)'; };
    my $by = q{concat('owner="', owner, '",package="', package, '"')};
    my $expected = join ' UNION ALL ',
        (map { my ($kind, @names) = @$_; qq~SELECT concat('pg_fleet_${kind}_total\{outcome="', o.outcome, '",', $by, '\}') AS metric, o.n::float8 AS value FROM fleet.stat AS s ~ . $values->($kind, @names) . q~ WHERE scope <> 'all'~ }
            [ runs => qw(succeeded failed canceled lost unknown) ], [ tasks => qw(succeeded failed canceled skipped lost unknown) ]),
        q~SELECT concat('pg_fleet_server_tasks_total{fleet_server="', s.server, '",outcome="', o.outcome, '"}'), o.n FROM fleet.stat_server AS s ~ . $values->('tasks', qw(succeeded failed canceled skipped lost unknown)),
        (map { my ($metric, $column) = @$_; qq~SELECT concat('pg_fleet_$metric\{', $by, '\}'), $column FROM fleet.stat WHERE scope <> 'all'~ }
            [ retries_total => 'retries' ], [ log_lines_total => 'log_lines' ], [ runs_late_total => 'runs_late' ], map { [ $_ => $_ ] } qw(runs_queued runs_running tasks_waiting tasks_running)),
        (map { my ($metric, $sum, $histogram) = @$_;
               qq~SELECT concat('pg_fleet_${metric}_bucket\{', $by, ',le="', b.bound, '"\}'), b.n FROM fleet.stat, unnest(fleet.stat_bounds()::text[] || '+Inf'::text, $histogram) AS b (bound, n) WHERE scope <> 'all'
                  UNION ALL SELECT concat('pg_fleet_${metric}_count\{', $by, '\}'), $histogram\[14] FROM fleet.stat WHERE scope <> 'all'
                  UNION ALL SELECT concat('pg_fleet_${metric}_sum\{', $by, '\}'), $sum FROM fleet.stat WHERE scope <> 'all'~ }
            [ qw(run_wait_seconds run_wait_seconds run_wait_buckets) ], [ qw(run_duration_seconds run_seconds run_buckets) ],
            [ qw(task_wait_seconds wait_seconds wait_buckets) ], [ qw(task_work_seconds work_seconds work_buckets) ]),
        (map { my ($metric, $sum, $histogram) = @$_; qq~SELECT concat('pg_fleet_server_${metric}_bucket\{fleet_server="', server, '",le="', b.bound, '"\}'), b.n FROM fleet.stat_server, unnest(fleet.stat_bounds()::text[] || '+Inf'::text, $histogram) AS b (bound, n)
                  UNION ALL SELECT concat('pg_fleet_server_${metric}_sum\{fleet_server="', server, '"\}'), $sum FROM fleet.stat_server~ }
            [ qw(task_wait_seconds wait_seconds wait_buckets) ], [ qw(task_work_seconds work_seconds work_buckets) ]),
        q~SELECT concat('pg_fleet_server_state_slots{fleet_server="', server, '",mode="', mode, '"}'), slots FROM fleet.server~,
        q~SELECT 'pg_fleet_agent_running{}', 1~, q~SELECT 'pg_fleet_agent_paused{}', 0~, q~SELECT 'pg_fleet_whole_paused{}', count(*) FROM fleet.paused~,
        q~SELECT 'pg_fleet_whole_rows_purged_total{}', rows_purged FROM fleet.stat WHERE scope = 'all'~;
    my @wrong;
    my $n = 0;
    for my $line (split /\n/, $f->sql($expected))
    {
        my ($name, $value) = $line =~ /^(.*)\|([^|]*)$/;
        my $got = delete $metric{$name};
        $n++;
        push @wrong, "$name: $value, and not " . ($got // 'nothing') if !defined $got || abs($got - $value) > 1e-6 * (1 + abs $value);
    }
    is(join("\n", @wrong), '', "$n values are those of the views");
    cmp_ok($n, '>', 300, '... and many');
    is(join(' ', grep { !/^pg_fleet_(?:server_(?:state_(?:online|failing)|retries_total|tasks_running|task_\w+_count)|agent_starts_total|whole_(?:history_bytes|quarantined_total))/ } sort keys %metric), '', 'there are no others');

    my %exists = map { /^(pg_fleet\w*)/ ? ($1 => 1) : () } split /\n/, $scrape;
    for my $file (qw(alerts.yaml dashboard.json))
    {
        my $text = slurp_file("$folder/$file");
        my %used = map { $_ => 1 } $text =~ /\b(pg_fleet_\w+)/g;
        cmp_ok(scalar keys %used, '>', 7, "$file names metrics");
        is(join(' ', grep { !$exists{$_} } sort keys %used), '', '... and none that does not exist');
    }
    my $output = '';
    my $ours = join '', grep { /^(?:# \w+ )?pg_fleet/ } split /^/, $scrape;
    ok(IPC::Run::run([ $promtool, 'check', 'metrics' ], '<', \$ours, '>&', \$output), 'promtool finds nothing wrong with the metrics') or diag($output);
    for my $check ([ 'check', 'rules', "$folder/alerts.yaml" ], [ 'test', 'rules', "$folder/alerts_test.yaml", "$folder/alerts_week_test.yaml" ])
    {
        ok(IPC::Run::run([ $promtool, @$check ], '<', \$none, '>&', \$output), "promtool @$check[0, 1]") or diag($output);
    }
    my $tests = slurp_file("$folder/alerts_test.yaml") . slurp_file("$folder/alerts_week_test.yaml");
    is(join(' ', grep { $tests !~ /alertname: $_\n\s+exp_alerts:\n/ } slurp_file("$folder/alerts.yaml") =~ /alert: (\w+)/g), '', 'each alert has a test in which it comes');
    is(JSON::PP->new->decode(slurp_file("$folder/dashboard.json"))->{title}, 'pg_fleet', 'the dashboard is JSON');
}

# ---- an old snapshot -----------------------------------------------------------------------------

# Versions of rows cannot be removed then.  They are not written with each commit any more, and not lost either.
my $session = $f->parent->background_psql($FleetTest::DB);
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$f->package('small', t => { sql => 'SELECT 1' });
is(scalar(grep { $f->wait_run($f->start('small')) eq 'succeeded' } 1 .. 600), 600, '600 runs under an old snapshot');
cmp_ok($f->sql(q{SELECT pg_relation_size('fleet_catalog.stat') / current_setting('block_size')::int}), '<', 160, 'the table of the counters stays small');
$f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
$f->wait_for('parent', q{SELECT runs_succeeded FROM fleet.stat WHERE package = 'small'}, '600', 'an agent that leaves has written all');
$session->query_safe('COMMIT');
$session->quit;

# ---- to begin anew -----------------------------------------------------------------------------

$f->fails('SELECT fleet.stat_reset()', '42501', 'not everybody resets counters', as => 'alice', help => 1);
$long = $f->start('long');
$f->wait_for('parent', q{SELECT tasks_running FROM fleet.stat WHERE package = 'long'}, '1', 'something runs');
$before = $f->sql('SELECT now()');
$f->sql_as('operates', 'SELECT fleet.stat_reset()');
$f->wait_for('parent', qq{SELECT bool_and(since > '$before'), sum(runs_succeeded + tasks_failed + retries + rows_purged + wait_buckets[14]), sum(work_seconds) FROM fleet.stat}, 't|0|0', 'an operator does, of all');
is(value('tasks_running, tasks_waiting, runs_running', 'long'), '1|1|1', '... but not what is running');
$f->sql("SELECT fleet.cancel_run($long)");
$f->run_is($long, 'canceled', 'its end ...');
is(value('runs_canceled', 'long'), '1', '... is the first that is counted again');

$f->done(crashes => 1);
