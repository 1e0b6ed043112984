# What the documents show is found by an index, however much history there is: each of their queries is executed on a history of some 10^5 rows, and the
# server counts the rows of history that it looked at, also those within functions.  As a role that owns some of it, and no superuser.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(direct => 1);
my $tree = $ENV{FLEET_TREE} || '.';

# ---- the queries -------------------------------------------------------------------------------

sub slurp { my ($file) = @_; open my $in, '<:encoding(UTF-8)', $file or die "$file: $!\n"; local $/; return scalar <$in>; }

my $history = qr/recent|run|task_run|job_run|job_log|step_run|log|progress|event|server_status|quarantine|paused|deployment|schedule|limits|version/;
my %query;
for my $file (glob("$tree/doc/*.md"), "$tree/README.md", "$tree/demo/tour.sql")
{
    my $text = slurp($file);
    $text =~ s/-- [^\n]*//g;
    $text =~ s/^DO [^\n]*//mg; # the tour waits
    # up to the end of the statement, of the piece of code in a line, or of the block
    while ($text =~ /\b(SELECT\b(?:(?!\bSELECT\b[^;`\\]*?\bFROM fleet\.)[^;`\\])*?\bFROM fleet\.(?:$history)\b(?!\()[^;`\\]*)/g)
    {
        my $query = $1;
        $query =~ s/\s+/ /g;
        $query =~ s/[ .]+\z//;
        $query =~ s/:[a-z]+/42/g;
        $query{$query} = 1 unless $query =~ /\A[^']*…|\bx\.\w+ FROM fleet/;
    }
    $query{"SELECT count(*) FROM fleet.$1(42) AS x"} = 1 while $text =~ /\bfleet\.(gantt|tree)\(\d/g;
    $query{"SELECT length(fleet.$1(42))"} = 1 while $text =~ /\bfleet\.(report)\(\d/g;
    $query{"SELECT length(fleet.$1(days => 1))"} = 1 while $text =~ /\bfleet\.(overview)\(/g;
}
my @queries = sort keys %query;
cmp_ok(scalar @queries, '>', 30, 'the documents show queries') or diag(join "\n", @queries);
for my $view (qw(recent run task_run job_run job_log step_run log progress event server_status), 'gantt(', 'tree(', 'report(', 'overview(')
{
    ok(scalar(grep { /fleet\.\Q$view\E/ && ($view =~ /\(/ || /fleet\.\Q$view\E\b(?!_)/) } @queries), "one of $view") unless $view eq 'step_run';
}
# what they say of it besides
push @queries, q{SELECT * FROM fleet.run WHERE finished_at >= now() - interval '1 hour'}, q{SELECT * FROM fleet.run WHERE queued_at >= now() - interval '1 hour'},
    q{SELECT * FROM fleet.run WHERE package = 'rare'}, q{SELECT * FROM fleet.job_log WHERE package = 'rare'}, q{SELECT * FROM fleet.progress WHERE package = 'rare'},
    (map { my $view = $_; map { "SELECT * FROM fleet.$view WHERE state $_" } q{= 'running'}, q{= 'queued'}, q{= 'lost'}, q{IN ('lost', 'unknown', 'canceled')} } qw(run task_run job_log step_run job_run)),
    q{SELECT * FROM fleet.step_run WHERE started_at >= now() - interval '1 hour'}, q{SELECT * FROM fleet.job_log WHERE job_run_id = 42}, q{SELECT * FROM fleet.job_run WHERE job_run_id = 42};

# ---- the history -------------------------------------------------------------------------------

my ($runs, $tasks) = (20_000, 5);
$f->sql(q{CREATE ROLE found_reads; GRANT fleet_reader TO found_reads; CREATE ROLE found_owns});
$f->sql(<<"SQL");
INSERT INTO fleet_catalog.definition (hash, kind, body, version) VALUES ('00000000-0000-0000-0000-000000000001', 'package', '{"precedence": []}', 1);
INSERT INTO fleet_catalog.definition_task (hash, task_no, name, kind, job, for_each) SELECT '00000000-0000-0000-0000-000000000001', t, 'task' || t, 'job', 'work', false FROM generate_series(0, $tasks - 1) AS t;
INSERT INTO fleet_catalog.run (run_id, package, definition, owner, state, package_id, queued_at, started_at, finished_at, late_at)
SELECT i, CASE WHEN i % 1000 = 7 THEN CASE WHEN i % 2000 = 7 THEN 'nightly' ELSE 'rare' END ELSE 'often' END, '00000000-0000-0000-0000-000000000001', 'found_owns',
       CASE WHEN i % 1000 = 3 THEN 12 WHEN i % 5000 = 4 THEN 15 ELSE 11 END, 1, t, t, t + interval '10 s', CASE WHEN i % 10000 = 5 THEN t END
  FROM (SELECT i, now() - ($runs - i) * interval '10 min' AS t FROM generate_series(1, $runs) AS i) AS x;
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, attempt, server_id, started_at, finished_at, sqlstate)
SELECT r.run_id, k, 0, r.queued_at, CASE WHEN k = 2 THEN r.state ELSE 11 END, 1, 1, r.queued_at, r.finished_at, CASE WHEN k = 2 AND r.state > 11 THEN '22012' END
  FROM fleet_catalog.run AS r, generate_series(0, $tasks - 1) AS k ORDER BY 1, 2;
INSERT INTO fleet_catalog.step_run (run_id, task_no, item, started_at, first_seq, server_id, step_no, attempt, step, state, phase, last_seq, finished_at, sqlstate)
SELECT t.run_id, t.task_no, 0, t.started_at, 1, 1, 1, 1, 'one', t.state, 4, 4, t.finished_at, t.sqlstate FROM fleet_catalog.task_run AS t ORDER BY 1, 2;
INSERT INTO fleet_catalog.log_line (run_id, task_no, item, step_no, seq, logged_at, level, message)
SELECT t.run_id, t.task_no, 0, 1, 1 + n, t.started_at, 'NOTICE', 'line ' || n FROM fleet_catalog.task_run AS t, generate_series(1, 2) AS n ORDER BY 1, 2, n;
INSERT INTO fleet_catalog.event (raised_at, run_id, owner, kind, package) SELECT r.finished_at, r.run_id, r.owner, 'run_ended', r.package FROM fleet_catalog.run AS r ORDER BY r.run_id;
INSERT INTO fleet_catalog.job_run (job_run_id, job, definition, owner, state, queued_at, started_at, finished_at)
SELECT i, 'work', '00000000-0000-0000-0000-000000000001', 'found_owns', CASE WHEN i % 1000 = 3 THEN 12 ELSE 11 END, t, t, t + interval '5 s'
  FROM (SELECT i, now() - ($runs - i) * interval '10 min' AS t FROM generate_series(1, $runs) AS i) AS x;
INSERT INTO fleet_catalog.step_run (job_run_id, started_at, first_seq, step_no, attempt, step, state, phase, last_seq, finished_at)
SELECT j.job_run_id, j.started_at, 1, 1, 1, 'one', j.state, 4, 4, j.finished_at FROM fleet_catalog.job_run AS j ORDER BY 1;
SELECT setval('fleet_catalog.run_run_id_seq', $runs), setval('fleet_catalog.job_run_job_run_id_seq', $runs);
SQL
# something that runs
$f->job('work', 'SELECT etl.work()');
$f->package('nightly', each => { job => 'work', server => 'd1', for_each => 'SELECT i FROM generate_series(1, 20) AS i' }, rest => { sql => 'SELECT pg_sleep(3600)' });
my $open = $f->start('nightly');
$f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $open AND task = 'rest' AND state = 'running'", '1', 'a run is open');
$f->sql('VACUUM ANALYZE');

# ---- what is looked at -------------------------------------------------------------------------

# Of the current transaction: rows that scans of whole tables read, and rows that were fetched by an index.
$f->sql(<<'SQL');
CREATE SCHEMA found;
CREATE FUNCTION found.looked_at(whole boolean) RETURNS bigint LANGUAGE sql AS $$
SELECT sum(CASE WHEN whole THEN pg_stat_get_xact_tuples_returned(c.oid) ELSE pg_stat_get_xact_tuples_fetched(c.oid) END)
  FROM unnest('{run,task_run,job_run,step_run,log_line,event}'::text[]) AS n JOIN pg_class AS c ON c.relname = n AND c.relnamespace = 'fleet_catalog'::regnamespace $$;
CREATE FUNCTION found.of(query text) RETURNS TABLE (read bigint, fetched bigint, shown bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_before bigint[] := ARRAY[found.looked_at(true), found.looked_at(false)];
BEGIN
    EXECUTE 'SELECT count(*) FROM (' || query || ' OFFSET 0) AS x' INTO shown;
    read := found.looked_at(true) - v_before[1];
    fetched := found.looked_at(false) - v_before[2];
    RETURN NEXT;
END
$$;
GRANT USAGE ON SCHEMA found TO PUBLIC;
SQL

sub looked_at
{
    my ($role, $query) = @_;
    (my $quoted = $query) =~ s/'/''/g;
    return split /\|/, $f->sql("SET ROLE $role; SELECT * FROM found.of('$quoted')");
}
sub is_found
{
    my ($role, $query) = @_;
    my ($read, $fetched, $shown) = looked_at($role, $query);
    ok($read == 0 && $fetched < 3000 + 20 * $shown, "found by $role: $query") or diag("$read rows of whole tables were read, $fetched fetched, $shown shown");
    return;
}
my ($read) = looked_at('found_reads', "SELECT * FROM fleet.log WHERE message = 'no such'");
cmp_ok($read, '>', 100_000, 'a scan of history is seen to be one');
for my $role (qw(found_owns found_reads))
{
    is_found($role, $_) for @queries;
}

$f->sql("SELECT fleet.cancel_run($open)");
$f->run_is($open, 'canceled', 'the run ends');
$f->done(made => 1);
