# (runs long)
# The window between "the transaction id has been received" and "the answer to COMMIT is there".
# Who ends in it (the parent, its agent, a runner, the direct server, or what stands behind its
# address) and exactly where: one effect, or the outcome is unknown with 08007.  Never guessed, never
# twice.  Every fault is made at a named point or at one message of the protocol.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(register => 0, preload => 1, delays => 0);
# d1 has a standby, and the witness's cluster can stand in for it: the same database, another system
$f->{nodes}{d1} = $f->make_node('d1', streaming => 1);
$f->prepare_database('d1', extension => 0);
$f->prepare_database('witness', extension => 0);
$f->{mode}{d1} = 'direct';
push @{ $f->{children} }, 'd1';
$f->start_proxy;
$f->register('d1');
my $proxy = $f->proxy;
my ($d1, $other) = ($f->node('d1'), $f->node('witness'));
$d1->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($d1, 'b', has_streaming => 1);
$standby->start;

$f->job('work', 'SELECT etl.work()');
# no write over there, so that a crash loses its id, which is then given out again
$f->job('mark', q{SELECT etl.witness('start')});
$f->job('mark_again', { sql => q{SELECT etl.witness('start')}, on_unknown => 'retry', retries => 1, retry_wait => '10ms' });
$f->package($_, -params => '{"key": null}', t => { job => $_, server => 'd1' }) for qw(work mark mark_again);
$f->package('here', -params => '{"key": null}', t => { sql => 'SELECT etl.work()' });

my $unknown = 'the step was cut off after its transaction was ready, and the server can no longer tell whether it committed';

# One run whose agent (or runner) waits at the point.
sub begin
{
    my ($package, $key, $point) = @_;
    note "---- $key";
    $f->point('parent', $point, 'wait') if defined $point;
    my $run = $f->start($package, "{\"key\": \"$key\"}");
    $f->point_waits('parent', $point, "$key: it is at $point") or BAIL_OUT("$point is never reached") if defined $point;
    return $run;
}

# One run whose COMMIT is done on d1, and whose answer is held back.
sub begin_committed
{
    my ($package, $key) = @_;
    note "---- $key";
    $proxy->ctl('on', 'd1', 's2c', 'before', '^C....COMMIT', 'hole');
    my $run = $f->start($package, "{\"key\": \"$key\"}");
    ok($proxy->fired('d1'), "$key: COMMIT is done, and its answer is held back");
    return $run;
}

# All step runs, and the task.
sub rows
{
    my ($run) = @_;
    return $f->sql("SELECT concat_ws(' / ', (SELECT string_agg(concat_ws(' ', attempt, state, sqlstate, message), '; ') FROM fleet.job_log WHERE run_id = $run),
        concat_ws(' ', state, attempt, sqlstate, message, output)) FROM fleet.task_run WHERE run_id = $run");
}

# What is true of the world, and what the log says of the step: one row, of the first attempt.
sub ends_once
{
    my ($run, $key, $where, $starts) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->run_is($run, 'succeeded', "$key: the run succeeds");
    is($f->effects($where, $key), 1, "$key: one effect");
    is($f->witnessed($key, 'start'), $starts, "$key: " . ($starts == 1 ? 'it was not done again' : 'done again once, as it surely had no effect'));
    is(rows($run), "1 succeeded / succeeded 1 $key", "$key: one step run, and the task with its value");
    return;
}

sub ends_unknown
{
    my ($run, $key, $starts) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->run_is($run, 'failed', "$key: the run fails");
    is(rows($run) =~ s/ $key$//r, "1 unknown 08007 $unknown / unknown 1 08007 $unknown",
        "$key: the outcome of the step and of the task is unknown, and says why");
    is($f->witnessed($key, 'start'), 1, "$key: it was not done again");
    return;
}

sub crash
{
    my ($node, $point) = @_;
    $node->stop('immediate');
    $f->point_release('parent', $point) if defined $point;
    $node->start;
    return;
}

sub stored_xid { my ($run) = @_; return $f->sql("SELECT max(xid) FROM fleet_catalog.step_run WHERE run_id = $run"); }

# Until the id was given out there too: a committed transaction has it.
sub give_out
{
    my ($node, $xid) = @_;
    my $next = $node->safe_psql($FleetTest::DB, 'SELECT pg_current_xact_id()');
    $node->safe_psql($FleetTest::DB, "SELECT pg_current_xact_id();\n" x ($xid - $next + 1)) if $next <= $xid;
    is($node->safe_psql($FleetTest::DB, "SELECT pg_xact_status('$xid')"), 'committed', "there, transaction $xid is committed");
    return;
}

sub leave_home
{
    my ($node) = @_;
    $proxy->ctl('target', 'd1', '127.0.0.1', $node->port);
    $proxy->ctl('kill', 'd1');
    return;
}

my $run;

# ---- the parent crashes ------------------------------------------------------------------------

for my $case (
    [ 'step_prepared',           2 ],    # the id was received, and not stored
    [ 'step_before_send_commit', 2 ],    # it is stored
    [ 'step_after_send_commit',  2 ])    # COMMIT is in the buffer, and never leaves
{
    my ($point, $starts) = @$case;
    my $key = "direct_parent_$point";
    $run = begin('work', $key, $point);
    is((stored_xid($run) || 0) > 0 ? 't' : 'f', $point eq 'step_prepared' ? 'f' : 't', "$key: the id is " . ($point eq 'step_prepared' ? 'not stored' : 'stored before COMMIT is sent'));
    is($f->effects('d1', $key), 0, "$key: and nothing is committed");
    crash($f->parent, $point);
    ends_once($run, $key, 'd1', $starts);
}
$run = begin_committed('work', 'direct_parent_committed');
is($f->effects('d1', 'direct_parent_committed'), 1, 'direct_parent_committed: it is committed');
$f->parent->stop('immediate');
$proxy->ctl('allow', 'd1');
$f->parent->start;
ends_once($run, 'direct_parent_committed', 'd1', 1);

for my $case (
    [ 'step_prepared',           2 ],
    [ 'step_before_send_commit', 2 ],
    [ 'runner_before_commit',    2 ],
    [ 'runner_after_commit',     1 ])
{
    my ($point, $starts) = @$case;
    my $key = "runner_parent_$point";
    $run = begin('here', $key, $point);
    is($f->effects('parent', $key), $point eq 'runner_after_commit' ? 1 : 0, "$key: committed, or not");
    crash($f->parent, $point);
    ends_once($run, $key, 'parent', $starts);
}

# ---- its agent ends ----------------------------------------------------------------------------

for my $case (
    [ 'work', 'd1',     'step_prepared',           2 ],
    [ 'work', 'd1',     'step_before_send_commit', 2 ],
    [ 'work', 'd1',     'step_committed',          1 ],    # the answer was received, and not stored
    [ 'here', 'parent', 'step_prepared',           1 ],    # the runner outlives the agent
    [ 'here', 'parent', 'step_before_send_commit', 1 ],
    [ 'here', 'parent', 'step_after_send_commit',  1 ],
    [ 'here', 'parent', 'step_committed',          1 ])
{
    my ($package, $where, $point, $starts) = @$case;
    my $key = "${package}_agent_$point";
    note "---- $key";
    $f->point('parent', $point, 'exit');
    $run = $f->start($package, "{\"key\": \"$key\"}");
    $f->point_fired('parent', $point, "$key: the agent ends there");
    ends_once($run, $key, $where, $starts);
}
$run = begin_committed('work', 'direct_agent_committed');
my $pid = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', 'direct_agent_committed: the agent is gone');
$proxy->ctl('allow', 'd1');
ends_once($run, 'direct_agent_committed', 'd1', 1);

# ---- a runner ends -----------------------------------------------------------------------------

for my $case (
    [ 'runner_before_prepared', 'exit', 2 ],
    [ 'runner_before_commit',   'exit', 2 ],
    [ 'runner_after_commit',    'exit', 1 ],
    [ 'runner_before_commit',   'kill', 2 ],    # kill -9: all of the cluster ends
    [ 'runner_after_commit',    'kill', 1 ])
{
    my ($point, $word, $starts) = @$case;
    my $key = "runner_${word}_$point";
    note "---- $key";
    $f->point('parent', $point, $word);
    $run = $f->start('here', "{\"key\": \"$key\"}");
    $f->point_fired('parent', $point, "$key: it ends there");
    if ($word eq 'kill')
    {
        $f->parent->stop('immediate', fail_ok => 1);    # a cluster of the tests does not restart by itself
        $f->parent->start;
    }
    ends_once($run, $key, 'parent', $starts);
}

# ---- the connection is lost with COMMIT on its way ---------------------------------------------

# Over there the session waits for it, with its transaction in progress: it is ended before anything is done again.
{
    my $key = 'direct_commit_on_its_way';
    $proxy->ctl('on', 'd1', 'c2s', 'before', '^[QP].*COMMIT', 'strand');
    $run = $f->start('work', "{\"key\": \"$key\"}");
    ok($proxy->fired('d1'), "$key: the connection is lost before COMMIT has arrived");
    ends_once($run, $key, 'd1', 2);
    $proxy->ctl('allow', 'd1');
    $f->wait_for('d1', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'etl' AND state LIKE 'idle in transaction%'}, '0', "$key: when it arrives, its session is gone");
    is($f->effects('d1', $key), 1, "$key: and it has no effect");
}

# ---- the direct server crashes -----------------------------------------------------------------

for my $point (qw(step_prepared step_before_send_commit))
{
    my $key = "server_$point";
    $run = begin('work', $key, $point);
    crash($d1);
    $f->point_release('parent', $point);
    ends_once($run, $key, 'd1', 2);
}
# COMMIT was done, and the id may have been given out again since: nobody can tell
$run = begin_committed('work', 'server_committed');
crash($d1);
$proxy->ctl('kill', 'd1');    # the answer that was held back is lost
$proxy->ctl('allow', 'd1');
ends_unknown($run, 'server_committed');
is($f->effects('d1', 'server_committed'), 1, 'server_committed: its effect is there');
# it was not done, and its id was given out again: "committed" is another's
for my $package (qw(mark mark_again))
{
    my $key = "server_given_out_$package";
    $run = begin($package, $key, 'step_before_send_commit');
    my $xid = stored_xid($run);
    crash($d1);
    give_out($d1, $xid);
    $f->point_release('parent', 'step_before_send_commit');
    if ($package eq 'mark')
    {
        ends_unknown($run, $key);
    }
    else
    {
        $f->run_is($run, 'succeeded', "$key: on_unknown retry: the run succeeds");
        is($f->sql("SELECT string_agg(concat_ws(' ', attempt, state, sqlstate), ', ' ORDER BY attempt) FROM fleet.job_log WHERE run_id = $run"),
            '1 unknown 08007, 2 succeeded', "$key: in a second attempt");
        is($f->witnessed($key, 'start'), 2, "$key: it was done again once");
    }
}

# ---- another server behind the same address ----------------------------------------------------

# not stored: surely not committed, so it is done where the address leads now
note '---- replaced_intent';
$f->point('parent', 'step_prepared', 'wait');
$run = $f->start('work', '{"key": "replaced_intent"}');
$f->point_waits('parent', 'step_prepared', 'replaced_intent: it is at step_prepared');
leave_home($other);
crash($f->parent, 'step_prepared');
$f->run_is($run, 'succeeded', 'replaced_intent: no stored id: done on the new server');
is($f->effects('d1', 'replaced_intent') . $other->safe_psql($FleetTest::DB, q{SELECT count(*) FROM etl.effect WHERE key = 'replaced_intent'}), '01',
    'replaced_intent: one effect, there');
leave_home($d1);

for my $how (qw(link agent))
{
    my $key = "replaced_$how";
    $run = begin('work', $key, 'step_before_send_commit');
    give_out($other, stored_xid($run));
    leave_home($other);
    if ($how eq 'agent') { crash($f->parent, 'step_before_send_commit'); }
    else { $f->point_release('parent', 'step_before_send_commit'); }
    ends_unknown($run, $key);
    leave_home($d1);
}
$run = begin_committed('work', 'replaced_committed');
leave_home($other);
$proxy->ctl('allow', 'd1');
ends_unknown($run, 'replaced_committed');
is($f->effects('d1', 'replaced_committed'), 1, 'replaced_committed: the effect is where it was done');
leave_home($d1);

# Another role has a link of its own, which may know the new server before the first one does.
$f->sql(<<"SQL");
CREATE ROLE mate LOGIN;
GRANT USAGE ON FOREIGN SERVER d1 TO mate;
CREATE USER MAPPING FOR mate SERVER d1 OPTIONS (user 'etl', password '$FleetTest::PASSWORD');
SQL
$f->sql_as('mate', q{SELECT fleet.create_job('of_mate'); SELECT fleet.add_step('of_mate', 's', 'SELECT etl.work()');
    SELECT fleet.create_package('of_mate', params => '{"key": null}'); SELECT fleet.add_task('of_mate', 't', job => 'of_mate', server => 'd1')});

sub run_of_mate
{
    my ($key) = @_;
    $f->run_is($f->sql_as('mate', "SELECT fleet.run_parent_package('of_mate', params => '{\"key\": \"$key\"}')"), 'succeeded', "$key: a run of another role");
    return $other->safe_psql($FleetTest::DB, "SELECT count(*) FROM etl.effect WHERE key = '$key'");
}

# A session that is still with the old server is asked about as what it is.
{
    my $key = 'replaced_beside';
    $f->run_is($f->start('work', '{"key": "home"}'), 'succeeded', "$key: a session with the old server");
    $proxy->ctl('target', 'd1', '127.0.0.1', $other->port);
    is(run_of_mate("${key}_mate"), 1, "$key: that one is on the new server");
    $run = begin('work', $key, 'step_before_send_commit');
    give_out($other, stored_xid($run));
    $proxy->ctl('kill', 'd1');
    $f->point_release('parent', 'step_before_send_commit');
    ends_unknown($run, $key);
    leave_home($d1);
}

# The new server is known already when the parent crashes: what is compared is the server of that time.
{
    my $key = 'replaced_known';
    $run = begin('work', $key, 'step_before_send_commit');
    give_out($other, stored_xid($run));
    # who would ask about the id is cut off at its first statement
    $proxy->ctl('on', 'd1', 'c2s', 'before', 'set_config..search_path', 'kill', 100000);
    leave_home($other);
    $f->point_release('parent', 'step_before_send_commit');
    ok($proxy->fired('d1'), "$key: the question does not get there");
    is(run_of_mate("${key}_mate"), 1, "$key: that one is on the new server");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'running', "$key: and the first one is not decided yet");
    $f->parent->stop('immediate');
    $proxy->ctl('allow', 'd1');
    $f->parent->start;
    ends_unknown($run, $key);
    leave_home($d1);
}

# The address leads to a standby for a while: that cannot tell, and is not asked.
{
    my $key = 'standby_meanwhile';
    $run = begin('work', $key, 'step_before_send_commit');
    leave_home($standby);
    my $before = $proxy->accepted('d1');
    $f->point_release('parent', 'step_before_send_commit');
    ok($proxy->accepts('d1', $before + 4), "$key: it was tried again and again");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'running', "$key: and is not decided");
    leave_home($d1);
    ends_once($run, $key, 'd1', 2);
}

# ---- promoted ----------------------------------------------------------------------------------

$run = begin_committed('work', 'promoted');
my $xid = stored_xid($run);
$d1->wait_for_catchup($standby, 'replay', $d1->lsn('flush'));
$standby->promote;
is($standby->safe_psql($FleetTest::DB, "SELECT pg_xact_status('$xid')"), 'committed', 'promoted: the id is known there');
leave_home($standby);
$proxy->ctl('allow', 'd1');
ends_unknown($run, 'promoted');
leave_home($d1);

# ---- an id that is too old, or was never given out ---------------------------------------------

# The server forgets: what VACUUM does after a few million transactions.
sub forget
{
    my ($node, $xid, $point) = @_;
    $node->stop('fast');
    $f->point_release('parent', $point) if defined $point;
    system_or_bail('pg_resetwal', '-u', $xid + 1, $node->data_dir);
    $node->start;
    is($node->safe_psql($FleetTest::DB, "SELECT coalesce(pg_xact_status('$xid'), 'too old')"), 'too old', "the server knows nothing of $xid any more");
    return;
}
$run = begin('work', 'too_old', 'step_before_send_commit');
$xid = stored_xid($run);
give_out($d1, $xid + 3);
forget($d1, $xid);
$f->point_release('parent', 'step_before_send_commit');
ends_unknown($run, 'too_old');

$run = begin('here', 'too_old_here', 'runner_before_commit');
$xid = stored_xid($run);
give_out($f->parent, $xid + 3);
$f->point('parent', 'agent_moved_in', 'wait');    # nobody asks before the server has forgotten
crash($f->parent, 'runner_before_commit');
$f->point_waits('parent', 'agent_moved_in', 'too_old_here: the next agent has not asked yet');
forget($f->parent, $xid, 'agent_moved_in');
ends_unknown($run, 'too_old_here');

$run = begin('here', 'never_given_out', 'step_before_send_commit');
$f->sql("UPDATE fleet_catalog.step_run SET xid = xid + 1000000 WHERE run_id = $run");
crash($f->parent, 'step_before_send_commit');
ends_unknown($run, 'never_given_out');

$standby->stop;
$f->done(crashes => 1);
