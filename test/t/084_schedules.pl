# Schedules: what is due starts, once, whatever the clock, the agent and the server do meanwhile; what was missed; what
# cannot be started, and leaves the others alone.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, slots => 8, delays => 0, conf => "restart_after_crash = on\n");
$f->set_clock('parent', '2027-01-10 12:00:00');
$f->sql(<<'SQL');
CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE cyd LOGIN;
CREATE TABLE etl.told (what text, scheduled_for timestamptz, day text);
GRANT USAGE ON SCHEMA etl TO PUBLIC; GRANT ALL ON etl.told TO PUBLIC;
SQL
sub runs { my ($package) = @_; return $f->sql("SELECT coalesce(string_agg(to_char(scheduled_for, 'MM-DD HH24:MI'), ', ' ORDER BY run_id), '') FROM fleet.run WHERE package = '$package' AND parent_run_id IS NULL"); }
sub runs_become { my ($package, $times, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $f->wait_for('parent', "SELECT coalesce(string_agg(to_char(scheduled_for, 'MM-DD HH24:MI'), ', ' ORDER BY run_id), '') FROM fleet.run WHERE package = '$package' AND parent_run_id IS NULL", $times, $what); return; }
sub seen { my ($name, $columns) = @_; return $f->sql("SELECT $columns FROM fleet.schedule WHERE name = '$name'"); }
# The agent has looked at all schedules after this: one that is always due is fired.
my $probes = 0;
sub agent_has_looked
{
    $probes++;
    $f->sql("SELECT fleet.schedule_package('probe', '* * * * *', name => 'probe $probes'); UPDATE fleet_catalog.schedule SET since = since - interval '2 minutes' WHERE name = 'probe $probes'; SELECT fleet_link.keep_agent()");
    $f->wait_for('parent', "SELECT count(*) FROM fleet.schedule WHERE name = 'probe $probes' AND last_run_id IS NOT NULL", '1', 'the agent looks');
    $f->sql("SELECT fleet.unschedule('probe $probes')");
    $f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE package IN ('probe', 'cut') AND state <> 'succeeded'}, '0', 'and no runner is at work for its runs');
    return;
}
sub end_agent
{
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', 'the agent ends');
    return;
}

$f->package('probe', t => { sql => 'SELECT 1' });
$f->job('job', { sql => q{SELECT fleet.param('day') || ' ' || fleet.context('scheduled_for')} });
$f->package('inner', t => { sql => q{INSERT INTO etl.told SELECT 'nested', fleet.scheduled_for()} });
$f->package('nightly', -params => '{"day": null, "n": 1}',
    here => { sql => q{INSERT INTO etl.told SELECT 'here', fleet.scheduled_for(), fleet.param('day')} },
    there => { job => 'job', server => 'a1', params => '{"day": {"$context": "scheduled_for"}}' }, in => { nested => 'inner' });

# ---- one night -----------------------------------------------------------------------------------

is($f->sql(q{SELECT fleet.schedule_package('nightly', '0 2 * * *', params_sql => $$jsonb_build_object('day', fleet.scheduled_for()::date - 1)$$, time_zone => 'Europe/Berlin')}),
    '2027-01-11 01:00:00+00', 'a schedule says when it is due next');
agent_has_looked();
is(runs('nightly'), '', 'nothing starts before its time');
$f->set_clock('parent', '2027-01-11 01:00:00');
runs_become('nightly', '01-11 01:00', 'at its time it starts');
my $run = $f->sql(q{SELECT run_id FROM fleet.run WHERE package = 'nightly'});
$f->run_is($run, 'succeeded', 'and runs');
is($f->sql("SELECT run_key, params, owner, requested_by FROM fleet.run WHERE run_id = $run"), '2027-01-11T01:00:00Z|{"n": 1, "day": "2027-01-10"}|postgres|postgres',
    'with a run key of its time, and the parameters of the query');
is($f->sql('SELECT what, scheduled_for, day FROM etl.told ORDER BY what'), "here|2027-01-11 01:00:00+00|2027-01-10\nnested|2027-01-11 01:00:00+00|",
    'its tasks know for when they run, nested ones too');
like($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run AND task = 'there'"), qr/^2027-01-11T01:00:00\+00:00 2027-01-11 01:00:00\+00$/, 'and jobs on servers');
is(seen('nightly', 'next_time, last_time, last_run_id, failures'), "2027-01-12 01:00:00+00|2027-01-11 01:00:00+00|$run|", 'fleet.schedule has the next time and the last');
end_agent();
agent_has_looked();
is(runs('nightly'), '01-11 01:00', 'another agent, the same time: nothing starts twice');

# ---- the clock steps -----------------------------------------------------------------------------

$f->set_clock('parent', '2027-01-11 00:30:00');
agent_has_looked();
$f->set_clock('parent', '2027-01-11 01:05:00');
agent_has_looked();
is(runs('nightly'), '01-11 01:00', 'the clock goes back and comes to the time again: nothing starts');
$f->set_clock('parent', '2026-12-01 12:00:00');
agent_has_looked();
$f->set_clock('parent', '2026-12-02 01:00:00');
runs_become('nightly', '01-11 01:00, 12-02 01:00', 'a clock that goes back by weeks, since it was wrong: what is due by it starts');
$f->set_clock('parent', '2027-01-11 01:05:00');
agent_has_looked();
is($f->sql(q{SELECT count(*), count(DISTINCT run_key) FROM fleet.run WHERE package = 'nightly'}), '2|2', 'and forward over a time that has been: once')
  or diag(runs('nightly'));

# ---- missed --------------------------------------------------------------------------------------

for my $missed (qw(skip once all))
{
    $f->package("m$missed", t => { sql => 'SELECT 1' });
    $f->sql("SELECT fleet.schedule_package('m$missed', '0 3 * * *', missed => '$missed', time_zone => 'UTC')");
}
agent_has_looked();
$f->forget('parent');
$f->parent->stop;
$f->set_clock('parent', '2027-01-14 12:00:00');
$f->parent->start;
$f->sql('SELECT fleet_link.keep_agent()');
runs_become('mall', '01-11 03:00, 01-12 03:00, 01-13 03:00, 01-14 03:00', 'a server that was down for days: "all" starts all of them, in order');
runs_become('monce', '01-14 03:00', '"once" starts one');
agent_has_looked();
is(runs('mskip'), '', '"skip" starts nothing');
is(seen('mskip', 'next_time'), '2027-01-15 03:00:00+00', 'until its next time');
runs_become('nightly', '01-11 01:00, 12-02 01:00, 01-14 01:00', 'by default it is "once"');
$f->set_clock('parent', '2027-01-15 03:00:01');
runs_become('mskip', '01-15 03:00', 'which comes');
$f->package('flood', t => { sql => 'SELECT 1' });
$f->sql(q{SELECT fleet.schedule_package('flood', '* * * * *', missed => 'all', time_zone => 'UTC')});
agent_has_looked();
$f->set_clock('parent', '2027-06-01 00:00:30');
$f->wait_for('parent', q{SELECT count(*) || ' ' || min(scheduled_for) || ' ' || max(scheduled_for) FROM fleet.run WHERE package = 'flood'},
    '100 2027-05-31 22:21:00+00 2027-06-01 00:00:00+00', 'a clock that goes forward by months: the newest 100');
$f->sql(q{SELECT fleet.unschedule('flood')});
for my $missed (qw(skip once all)) { $f->sql("SELECT fleet.unschedule_package('m$missed')"); }

# ---- the agent ends in the middle ------------------------------------------------------------------

$f->package('cut', -params => '{"x": null}', t => { sql => 'SELECT 1' });
my $day = 1;
for my $case ([ 'schedule_starts', 'exit', 'between evaluation and start' ], [ 'schedule_prepared', 'exit', 'with the run not committed' ],
    [ 'runner_after_commit', 'kill', 'the server, with the run committed' ], [ 'agent_before_commit', 'exit', 'with the firing not recorded' ])
{
    my ($point, $word, $what) = @$case;
    my $date = sprintf '2027-06-%02d', ++$day;
    $f->sql("SELECT fleet.schedule_package('cut', '0 4 * * *', name => '$point', time_zone => 'UTC', params_sql => \$\$SELECT jsonb_build_object('x', count(*)) FROM pg_class\$\$)");
    agent_has_looked();
    $f->point('parent', $point, $word) if $point ne 'agent_before_commit';
    $f->forget('parent') if $word eq 'kill';
    eval { $f->set_clock('parent', "$date 04:00:00"); 1 } or $word eq 'kill' or die $@; # the server may end before it has answered
    $f->point('parent', $point, $word) if $point eq 'agent_before_commit';
    $f->point_fired('parent', $point, "$what: the agent ends");
    if ($word eq 'kill')
    {
        $f->forget('parent');
        $f->wait_for('parent', 'SELECT true', 't', "$what: the server is back");
        $f->sql('SELECT fleet_link.keep_agent()');
    }
    $f->wait_for('parent', "SELECT count(*) FROM fleet.schedule WHERE name = '$point' AND last_run_id IS NOT NULL AND last_time = '$date 04:00Z'", '1', "$what: it starts");
    agent_has_looked();
    is($f->sql("SELECT count(*) FROM fleet.run WHERE run_key = '$point ${date}T04:00:00Z'"), '1', "$what: exactly one run");
    $f->sql("SELECT fleet.unschedule('$point')");
}

# ---- what cannot be started ----------------------------------------------------------------------

for my $role (qw(ann ben cyd))
{
    $f->sql("SET ROLE $role; SELECT fleet.create_package('$role', params => '{\"x\": 0}'); SELECT fleet.add_task('$role', 't', sql => 'SELECT 1');"
          . "SELECT fleet.schedule_package('$role', '0 5 * * *', time_zone => 'UTC')");
}
$f->sql(q{SET ROLE ben; SELECT fleet.schedule_package('ben', '0 5 * * *', name => 'raises', time_zone => 'UTC', params_sql => 'SELECT jsonb_build_object(''x'', 1 / 0)');
    SELECT fleet.schedule_package('ben', '0 5 * * *', name => 'drops', time_zone => 'UTC', params_sql => $$SELECT jsonb_build_object('x', fleet.unschedule('drops'))$$);
    SELECT fleet.schedule_package('ben', '0 5 * * *', name => 'no object', time_zone => 'UTC', params_sql => '''[1]''');
    SELECT fleet.schedule_package('ben', '0 5 * * *', name => 'unknown', time_zone => 'UTC', params_sql => $$'{"y": 1}'$$)});
# one that never ends holds up its owner's, and nobody else's
$f->sql(q{SET ROLE cyd; SELECT fleet.schedule_package('cyd', '0 5 * * *', name => 'sleeps', time_zone => 'UTC', params_sql => $$SELECT jsonb_build_object('x', 1) FROM pg_sleep(1e6)$$)});
$f->sql('ALTER ROLE ann NOLOGIN');
$f->package('off', t => { sql => 'SELECT 1' });
$f->sql(q{SELECT fleet.schedule_package('off', '0 5 * * *', time_zone => 'UTC'); SELECT fleet.alter_package('off', enabled => false)});
agent_has_looked();
$f->set_clock('parent', '2027-06-20 05:00:00');
runs_become('ben', '06-20 05:00', 'what can start does');
$f->wait_for('parent', q{SELECT string_agg(name, ', ' ORDER BY name) FROM fleet.schedule WHERE failures > 0}, 'ann, drops, no object, off, raises, unknown', 'what cannot is shown as failing');
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'cyd' AND query LIKE '%pg_sleep%' AND backend_type LIKE 'pg_fleet%'}, '1', 'and one still sleeps');
is($f->sql(q{SELECT name, sqlstate, failed_for, message FROM fleet.schedule WHERE failures > 0 ORDER BY name}) =~ s/2027-06-20 05:00:00\+00/T/gr, <<'OUT' =~ s/\n\z//r, 'each with its reason');
ann|28000|T|role "ann" is not permitted to log in
drops|25006|T|params_sql: cannot execute UPDATE in a read-only transaction
no object|22023|T|params must be a JSON object
off|55000|T|package "off" is disabled
raises|22012|T|params_sql: division by zero
unknown|22023|T|package "ben" has no parameter "y"
OUT
$f->sql('ALTER ROLE ann LOGIN');
$f->sql(q{SELECT fleet.alter_package('off', enabled => true)});
runs_become('off', '06-20 05:00', 'one that can start again does');
$f->wait_for('parent', q{SELECT failures IS NULL FROM fleet.schedule WHERE name = 'off'}, 't', 'and fails no longer');
runs_become('ann', '06-20 05:00', 'the role may log in again: its schedule is tried again');
$f->sql(q{SELECT fleet.unschedule('sleeps')});
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'cyd' AND query LIKE '%pg_sleep%'}, '0', 'who is unscheduled in the middle is stopped');
runs_become('cyd', '06-20 05:00', 'and his other schedules come to it');
$f->sql(q{REASSIGN OWNED BY cyd TO postgres; DROP OWNED BY cyd; DROP ROLE cyd});
agent_has_looked();
$f->set_clock('parent', '2027-06-21 05:00:00');
runs_become('ann', '06-20 05:00, 06-21 05:00', 'an owner is dropped: others go on');
$f->wait_for('parent', q{SELECT failures > 0 FROM fleet.schedule WHERE name = 'cyd'}, 't', 'his schedule fails');
is(seen('cyd', 'sqlstate, message'), '42704|the role that it belongs to no longer exists', 'and says so');
$f->sql(q{SELECT fleet.unschedule_package(p) FROM unnest('{ann,ben,cyd,off}'::text[]) AS p});

# ---- paused --------------------------------------------------------------------------------------

$f->package('held', t => { sql => 'SELECT 1' });
$f->sql(q{SELECT fleet.schedule_package('held', '0 6 * * *', missed => 'all', time_zone => 'UTC'); SELECT fleet.pause(package => 'held')});
agent_has_looked();
$f->set_clock('parent', '2027-06-23 06:30:00');
agent_has_looked();
is(runs('held'), '', 'a package is paused: its schedule starts nothing');
$f->sql(q{SELECT fleet.resume(package => 'held')});
runs_become('held', '06-21 06:00, 06-22 06:00, 06-23 06:00', 'afterwards these are times that were missed');
$f->sql(q{SELECT fleet.pause()});
$f->set_clock('parent', '2027-06-24 06:30:00');
$f->sql(q{SELECT fleet.resume()});
runs_become('held', '06-21 06:00, 06-22 06:00, 06-23 06:00, 06-24 06:00', 'the same with everything');
# disabled: what it misses meanwhile is not made up for
$f->sql(q{SELECT fleet.alter_schedule('held', enabled => false)});
$f->set_clock('parent', '2027-06-26 06:30:00');
$f->sql(q{SELECT fleet.alter_schedule('held', enabled => true)});
agent_has_looked();
is(runs('held'), '06-21 06:00, 06-22 06:00, 06-23 06:00, 06-24 06:00', 'one that was disabled makes up for nothing');
$f->sql(q{SELECT fleet.alter_package('held', new_name => 'kept')});
$f->set_clock('parent', '2027-06-27 06:00:00');
runs_become('kept', '06-27 06:00', 'the schedule of a package that was renamed starts it');

# ---- a copy --------------------------------------------------------------------------------------

$f->forget('parent');
$f->sql(q{UPDATE fleet_catalog.identity SET system_identifier = system_identifier + 1});
end_agent();
$f->set_clock('parent', '2027-06-28 07:00:00');
$f->wait_for('parent', 'SELECT paused_reason IS NOT NULL FROM fleet.agent_status()', 't', 'a copy of a parent is paused');
is(runs('kept'), '06-27 06:00', 'and starts nothing');
$f->sql(q{SELECT fleet.confirm_identity('same')});
$f->wait_for('parent', q{SELECT max(scheduled_for) FROM fleet.run WHERE package = 'kept'}, '2027-06-28 06:00:00+00', 'until it is told who it is');

# ---- what takes too long -------------------------------------------------------------------------

$f->sql(q{SELECT fleet.schedule_package('probe', '15 7 * * *', name => 'late', time_zone => 'UTC', params_sql => $$SELECT '{}'::jsonb FROM pg_sleep(1e6)$$)});
agent_has_looked();
$f->point('parent', 'schedule_late', 'signal');
$f->set_clock('parent', '2027-06-28 07:15:00');
$f->wait_for('parent', q{SELECT sqlstate, message FROM fleet.schedule WHERE name = 'late'}, '57014|params_sql: canceled after 5 minutes', 'a query that takes too long is canceled');
$f->sql(q{SELECT fleet.unschedule('late')});

# ---- jobs, many, and the same minute ---------------------------------------------------------------

$f->job('tick', { sql => q{INSERT INTO etl.told SELECT 'tick', fleet.scheduled_for(), fleet.param('x')} });
$f->sql(q{SELECT fleet.alter_job('tick', params => '{"x": "none"}');
    SELECT fleet.schedule_job('tick', '0 8 * * *', params => '{"x": "eight"}', time_zone => 'UTC');
    SELECT fleet.schedule_job('tick', '0 8 * * *', name => 'tick too', params => '{"x": "too"}', time_zone => 'UTC')});
agent_has_looked();
$f->set_clock('parent', '2027-06-29 08:00:00');
$f->wait_for('parent', q{SELECT string_agg(scheduled_for || ' ' || day, ', ' ORDER BY day) FROM etl.told WHERE what = 'tick'}, '2027-06-29 08:00:00+00 eight, 2027-06-29 08:00:00+00 too',
    'two schedules of a job in the same minute: both');
$f->sql(q{SELECT fleet.create_package('many', params => '{"i": 0}'); SELECT fleet.add_task('many', 't', sql => 'SELECT 1');
    SELECT count(fleet.schedule_package('many', '0 9 * * *', name => 'many ' || i, params => jsonb_build_object('i', i), params_sql => '''{}''', time_zone => 'UTC')) FROM generate_series(1, 1000) AS i});
agent_has_looked();
$f->set_clock('parent', '2027-06-29 09:00:00');
$f->wait_for('parent', q{SELECT count(*) || ' ' || count(DISTINCT params) FROM fleet.run WHERE package = 'many'}, '1000 1000', 'a thousand in the same minute: each starts once');
$f->sql(q{SELECT fleet.unschedule(name) FROM fleet.schedule});
is($f->sql('SELECT count(*) FROM fleet.schedule'), '0', 'all are removed');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE state NOT IN ('succeeded', 'failed')}, '0', 'all runs end');
# ---- backfill: so many at a time ------------------------------------------------------------------

sub at_work { my ($package) = @_; return $f->sql("SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM fleet.run WHERE package = '$package' GROUP BY state) AS s"); }
$f->package('gated', -params => '{"key": "b"}', t => { sql => 'SELECT etl.work_until_released()' });
$f->sql(q{SELECT * FROM fleet.backfill('gated', '2026-12-01', '2026-12-05', max_parallel => 2)});
$f->wait_started('b', 2);
end_agent();
$f->wait_for('parent', q{SELECT count(*) FROM fleet.task_run AS t JOIN fleet.run AS r USING (run_id) WHERE r.package = 'gated' AND t.state = 'running'}, '2', 'its successor goes on with two');
is(at_work('gated'), 'queued 3, running 2', 'of five dates two run at a time');
my $now = $f->start('gated');
$f->wait_for('parent', "SELECT state FROM fleet.run WHERE run_id = $now", 'running', 'a run of today does not wait for them');
$f->release('b');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE package = 'gated' AND state = 'succeeded'}, '6', 'all come to their end');
is($f->sql(q{SELECT bool_and(previous IS NULL OR previous <= started_at) FROM (SELECT started_at, lag(started_at) OVER (ORDER BY scheduled_for) AS previous FROM fleet.run WHERE package = 'gated' AND scheduled_for IS NOT NULL) AS r}), 't', 'in the order of their times');
for my $overlap ('skip', 'replace', 'queue')
{
    $f->package($overlap, t => { sql => 'SELECT 1' });
    $f->sql("SELECT fleet.alter_package('$overlap', overlap => '$overlap'); SELECT * FROM fleet.backfill('$overlap', '2026-12-01', '2026-12-04')");
    $f->wait_for('parent', "SELECT count(*) FROM fleet.run WHERE package = '$overlap' AND state = 'succeeded'", '4', "overlap $overlap: each date has its run");
    is($f->sql("SELECT bool_and(previous IS NULL OR previous <= started_at) FROM (SELECT started_at, lag(finished_at) OVER (ORDER BY scheduled_for) AS previous FROM fleet.run WHERE package = '$overlap') AS r"), 't', '... one after the other');
}

$f->done(crashes => 1);
