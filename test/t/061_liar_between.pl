# (runs long) Between the parent and real servers of both modes stands a liar, who changes one message after the
# other of what they say (test/fakeserver/liar.py): each of these is a case.  The tasks there end somehow, and no
# agent does; another role's runs end, on the same parent, and on a server that nobody lies about; memory and
# descriptors stay flat.
#   FLEET_LIAR_CASES=n   how many (default: 800)
#   FLEET_LIAR_SEED=n    the seed (default: another one each time)
use strict;
use warnings;
use FleetTest qw(quote_literal);
use IPC::Open2;
use JSON::PP;
use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(time);

my $CASES = $ENV{FLEET_LIAR_CASES} || 800;
my $SEED = $ENV{FLEET_LIAR_SEED} || int rand 1_000_000_000;
diag("seed $SEED: FLEET_LIAR_SEED=$SEED FLEET_LIAR_CASES=$CASES make tap TESTS=test/t/061_liar_between.pl");

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0,
    conf => "max_files_per_process = 1000\nlog_min_messages = warning\n");
my $log = "$PostgreSQL::Test::Utils::log_path/liar.log";
my $pid = open2(my $out, my $in, '/usr/bin/python3', 'test/fakeserver/liar.py', '--seed', $SEED, '--log', $log,
    join ',', map { '127.0.0.1:' . $f->node($_)->port } ('a1') x 4, ('d1') x 4);
my @ports = split /,/, readline($out) =~ s/^ports=|\n//gr;
sub liar
{
    my (%command) = @_;
    print { $in } encode_json(\%command), "\n";
    $in->flush;
    return JSON::PP->new->allow_nonref->decode(scalar readline $out);
}
my $YES = JSON::PP::true;
my $NO = JSON::PP::false;

# What a liar has made hang is lost soon; of what is true nothing is, however slow the machine.
sub lost_after { my ($after) = @_; return $f->sql("ALTER SYSTEM SET fleet.lost_after = '$after'"), $f->sql('SELECT pg_reload_conf()'); }

# ---- who is lied about, and who is not -----------------------------------------------------------

my %step = (
    noop   => q{SELECT 1},
    talk   => q{DO $$BEGIN FOR i IN 1 .. 5 LOOP RAISE NOTICE 'line % %', i, repeat('x', i * 100); END LOOP; END$$},
    value  => q{SELECT jsonb_build_object('n', 42, 'text', 'grün')},
    wrong  => q{SELECT 1 / 0},
    wait   => q{SELECT pg_sleep(0.02)},
    vacuum => q{VACUUM etl.effect});
for my $job (sort keys %step)
{
    $f->sql_as('etl', sprintf q{SELECT fleet.create_job('%s'); SELECT fleet.add_step('%1$s', 's', %s)}, $job, quote_literal($step{$job}));
    $f->sql_as('etl', sprintf(q{SELECT fleet.create_job('%s'); SELECT fleet.add_step('%1$s', 's', %s)}, $job, quote_literal($step{$job})), on => 'a1');
}
$f->sql('GRANT fleet_operator TO etl; CREATE ROLE other LOGIN; GRANT USAGE ON SCHEMA etl TO other');
my %modes = (agent => [ @ports[0 .. 3] ], direct => [ @ports[4 .. 7] ]);
for my $mode (sort keys %modes)
{
    $f->sql_as('etl', join ";\n", map {
        sprintf q{SELECT fleet.add_server('%s', 'host=127.0.0.1 port=%d dbname=%s sslmode=disable connect_timeout=3', username => 'etl', password => %s, mode => '%s', slots => 2, groups => '{lies,lies_%5$s}')},
            "$mode $_", $modes{$mode}[ $_ % 4 ], $FleetTest::DB, quote_literal($FleetTest::PASSWORD), $mode } 1 .. 16);
}
$f->sql_as('etl', join ";\n", map { "SELECT fleet.create_package('$_')" } qw(lies cancels));
$f->sql_as('etl', sprintf q{SELECT fleet.add_task('lies', '%s_%s', job => '%1$s', on_group => 'lies_%2$s', for_each => 'SELECT jsonb_build_object(''n'', n) FROM generate_series(1, 8) AS n', retries => 1)}, @$_)
  for map { my $job = $_; map { [ $job, $_ ] } sort keys %modes } sort keys %step;
$f->sql_as('etl', q{SELECT fleet.add_task('cancels', 't', job => 'wait', on_group => 'lies', for_each => 'SELECT jsonb_build_object(''n'', n) FROM generate_series(1, 200) AS n')});
$f->sql_as('other', q{SELECT fleet.create_package('line'); SELECT fleet.add_task('line', 't', sql => 'SELECT 1')});
$f->job('honest', 'SELECT 1');
$f->package('true', map { ("on $_" => { job => 'honest', server => $_ }) } qw(a1 d1));

my $ended = q{('succeeded', 'failed', 'canceled')};
$f->run_is($f->start('true'), 'succeeded', 'servers about which nobody lies');
my $first = $f->sql_as('etl', q{SELECT fleet.run_parent_package('lies')});
like($f->wait_run($first), qr/^(?:succeeded|failed)$/, 'while the liar tells the truth, a run ends');
is($f->sql("SELECT string_agg(DISTINCT job || ' ' || state, ', ' ORDER BY job || ' ' || state) FROM fleet.task_run WHERE run_id = $first AND item > 0"),
    'noop succeeded, talk succeeded, vacuum succeeded, value succeeded, wait succeeded, wrong failed', '… each of its jobs as it should');
my ($agent, $starts) = split /\|/, $f->sql('SELECT pid, starts FROM fleet.agent_status()');
my %before = (memory => sum($f->agent_memory('parent')), files => scalar(() = glob "/proc/$agent/fd/*"));

# ---- lies --------------------------------------------------------------------------------------

lost_after('1s');
liar(lie => $YES);
my $begin = time;
my ($longest, $lines, @open) = (0, 0);
my $stats;
my $patience = $begin + $FleetTest::PATIENCE + $CASES / 3;
while (($stats = liar(stats => $YES))->{cases} < $CASES && time < $patience)
{
    push @open, $f->sql_as('etl', q{SELECT fleet.run_parent_package('lies')}), $f->sql_as('etl', q{SELECT fleet.run_parent_package('cancels')})
      while $f->sql(q{SELECT count(*) FROM fleet.run WHERE package IN ('lies', 'cancels') AND finished_at IS NULL}) < 4;
    $f->sql_as('etl', "SELECT fleet.cancel_run($open[-1])") if ++$lines % 7 == 0;
    # links that are down are made anew at any change of a server: nobody waits out how long they back off
    $f->sql_as('etl', q{SELECT fleet.alter_server('direct 1', weight => 1)}) if $lines % 5 == 0;
    my $start = time;
    my ($rc, undef, $err) = $f->try_as('other', q{CALL fleet.execute_package('line')});
    last unless is($rc, 0, "line $lines: another role's run succeeds") || !diag($err);
    $longest = time - $start if time - $start > $longest;
    last unless is($f->sql('SELECT starts FROM fleet.agent_status()'), $starts, "line $lines: no agent has ended");
}
cmp_ok($stats->{cases}, '>=', $CASES, "$CASES cases");
diag(sprintf '%d cases in %d connections and %.0f s; another role waited for at most %.2f s; %s', $stats->{cases}, $stats->{connections}, time - $begin, $longest,
    join ', ', map { "$_ $stats->{kinds}{$_}" } sort keys %{ $stats->{kinds} });
$f->run_is($f->start('true'), 'succeeded', 'servers about which nobody lies, again');

# ---- the truth again ----------------------------------------------------------------------------

liar(lie => $NO);
liar(cut => $YES);
$f->sql_as('etl', q{SELECT fleet.alter_server('direct 1', weight => 1)});
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE finished_at IS NULL}, '0', 'all runs come to their end') or diag(join "\n", @{ liar(last => 50) });
lost_after('60s');
my $last = $f->sql_as('etl', q{SELECT fleet.run_parent_package('lies')});
like($f->wait_run($last), qr/^(?:succeeded|failed)$/, 'when it tells the truth again, so does the next one');
is($f->sql("SELECT string_agg(DISTINCT job || ' ' || state, ', ' ORDER BY job || ' ' || state) FROM fleet.task_run WHERE run_id = $last AND item > 0"),
    'noop succeeded, talk succeeded, vacuum succeeded, value succeeded, wait succeeded, wrong failed', '… each of its jobs as it should');
is($f->sql('SELECT pid, starts, last_sqlstate FROM fleet.agent_status()'), "$agent|$starts|", 'the same agent all the time');
cmp_ok(sum($f->agent_memory('parent')), '<', $before{memory} + 20_000_000, 'its memory is flat: less than 20 MB more');
cmp_ok(scalar(() = glob "/proc/$agent/fd/*"), '<=', $before{files} + 70, 'so are its descriptors');
# what strangers have said breaks no view
for my $view (qw(run task_run job_run step_run job_log log recent progress server_status deployment))
{
    my ($rc, undef, $err) = $f->try_as('other', "SELECT count(t::text) FROM fleet.$view AS t");
    is($rc, 0, "fleet.$view can be read by others") or diag($err);
    ok($f->sql("SELECT count(t::text) >= 0 FROM fleet.$view AS t"), '… and by superusers');
}
is($f->sql(q{SELECT count(*) FROM fleet.task_run WHERE state NOT IN ('succeeded', 'failed', 'canceled', 'skipped', 'lost', 'unknown')}), '0', 'each task has an outcome');
close $in;
waitpid $pid, 0;
$f->done(made => 1);
