# What an administrator does to the catalog's tables while runs go on: rewrite and reindex them, keep a
# snapshot open, publish everything for logical replication.  The agent goes on, the same one.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 2, conf => "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4\n");
my $items = 200;

$f->job('short', 'SELECT pg_sleep(0.005)');
# Stays until it is released, without a snapshot or a transaction that REINDEX CONCURRENTLY would wait for.
my $witness = 'host=127.0.0.1 port=' . $f->node('witness')->port . ' dbname=witness user=witness password=witness';
$f->job('hold', <<"SQL");
DO \$\$
DECLARE
    released boolean := false;
BEGIN
    PERFORM etl.witness('start');
    WHILE NOT released LOOP
        SELECT n > 0 INTO released FROM public.dblink('$witness', format('SELECT count(*) FROM event WHERE what = ''release'' AND key = %L', etl.key())) AS t(n bigint);
        COMMIT;
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
END \$\$
SQL
for my $server (qw(a1 d1))
{
    # "hold" keeps the run open, and one of the two slots, until what is to meet it has been there
    $f->package("many_$server", -params => '{"key": null}',
        hold => { job => 'hold', server => $server },
        t => { job => 'short', server => $server, for_each => "SELECT jsonb_build_object('n', i) FROM generate_series(1, $items) AS i" });
}

$f->release('undisturbed');
$f->run_is($f->start("many_$_", '{"key": "undisturbed"}'), 'succeeded', "undisturbed: $_") for qw(a1 d1);
my %agent = map { $_ => $f->agent_pid($_) } qw(parent a1);

# Each statement is repeated until the runs are over, and has met them while they went on.
sub meanwhile
{
    my ($name, @statements) = @_;
    my @runs = map { $f->start("many_$_", "{\"key\": \"$name\"}") } qw(a1 d1);
    $f->wait_started($name, 2);
    my $rounds = 0;
    while ($f->sql('SELECT count(*) FROM fleet.run WHERE run_id IN (' . join(',', @runs) . q{) AND state IN ('queued', 'running')}))
    {
        for my $server (qw(parent a1))
        {
            $f->sql_on($server, $_) for @statements;
        }
        $f->release($name) if $rounds++ == 0;
    }
    cmp_ok($rounds, '>', 0, "$name: while the runs went on");
    for my $run (@runs)
    {
        $f->run_is($run, 'succeeded', "$name: the run");
        is($f->sql("SELECT count(*) || ' ' || count(DISTINCT item) || ' ' || max(attempt) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'succeeded'"),
            "$items $items 1", "$name: each item, at the first attempt");
        is($f->sql("SELECT count(*) || ' ' || count(DISTINCT item) FROM fleet.job_log WHERE run_id = $run AND task = 't' AND state = 'succeeded'"), "$items $items", "$name: each in the log, once");
    }
    $f->wait_for('a1', q{SELECT count(*) FROM fleet.job_run WHERE NOT (state = 'succeeded' AND acknowledged_at IS NOT NULL)}, '0', "$name: the child's job runs are over and acknowledged");
    is($f->agent_pid($_), $agent{$_}, "$name: the same agent on $_") for qw(parent a1);
    return;
}

meanwhile('VACUUM FULL', map { "VACUUM FULL fleet_catalog.$_" } qw(task_run step_run job_run run));
meanwhile('VACUUM', map { "VACUUM fleet_catalog.$_" } qw(task_run step_run job_run run));
meanwhile('REINDEX', map { "REINDEX TABLE CONCURRENTLY fleet_catalog.$_" } qw(task_run step_run job_run));

$f->sql_on($_, 'CREATE PUBLICATION everything FOR ALL TABLES') for qw(parent a1);
meanwhile('a publication of all tables', 'SELECT 1');
$f->sql_on($_, 'DROP PUBLICATION everything') for qw(parent a1);

$f->done;
