# Jobs as such: on this server, on servers of both modes and on groups; from a step on; once for each key;
# waited for, canceled, and continued by the next agent.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
$f->job('three', { name => 'one', sql => q{SELECT etl.witness('one')} }, { name => 'two', sql => q{SELECT etl.witness('two')} },
    { name => 'three', sql => 'SELECT etl.work_until_released()' });
$f->job('fails', q{SELECT 1 / 0});

sub events { my ($key) = @_; return $f->sql_on('witness', "SELECT coalesce(string_agg(what || '\@' || server, ' ' ORDER BY id), '') FROM (SELECT what, server, min(id) AS id FROM event WHERE key = '$key' AND what <> 'release' GROUP BY what, server) AS e"); }
sub ended { my ($id, $state, $name) = @_; return $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", $state, $name); }
sub other_agent
{
    my ($why) = @_;
    my $agent = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($agent)");
    return $f->wait_for('parent', "SELECT running AND pid <> $agent FROM fleet.agent_status()", 't', "$why: another agent is there");
}

for my $where (qw(a1 d1 parent))
{
    my $at = $where eq 'parent' ? '' : ", server => '$where'";
    # all of it
    my $id = $f->sql(qq{SELECT fleet.start_job('three', params => '{"key": "all-$where"}'$at, run_key => 'all-$where')});
    $f->wait_started("all-$where");
    is($f->sql(qq{SELECT fleet.start_job('three', params => '{"key": "again-$where"}'$at, run_key => 'all-$where')}), $id, "$where: the same key, the same job run");
    ended($id, 'running', "$where: it runs");
    $f->release("all-$where");
    ended($id, 'succeeded', "$where: a job ends");
    is(events("all-$where"), join(' ', map { "$_\@$where" } qw(one two start end)), "$where: it ran there, from its first step on");
    is($f->sql("SELECT string_agg(step || ' ' || state, ', ' ORDER BY step_no) FROM fleet.job_log WHERE job_run_id = $id OR run_id = (SELECT run_id FROM fleet.job_run WHERE job_run_id = $id)"),
        'one succeeded, two succeeded, three succeeded', "$where: the log has its steps");
    is($f->sql(qq{SELECT fleet.start_job('three', params => '{"key": "again-$where"}'$at, run_key => 'all-$where')}), $id, "$where: also when it has ended");

    # from a step on, and the agent is replaced while the next one runs
    $id = $f->sql(qq{SELECT fleet.start_job('three', params => '{"key": "from-$where"}'$at, start_step => 'two')});
    $f->wait_started("from-$where");
    other_agent($where);
    $f->release("from-$where");
    ended($id, 'succeeded', "$where: begun at a step, it ends under the next agent");
    is(events("from-$where"), join(' ', map { "$_\@$where" } qw(two start end)), "$where: the first step was not executed");

    # execute_job(): waits and says how it went
    $f->release("exec-$where");
    my ($rc, $out, $err) = $f->try_as(undef, qq{CALL fleet.execute_job('three', '{"key": "exec-$where"}'$at, start_step => 'three')});
    is($rc, 0, "$where: execute_job() waits until it has ended") or diag($err);
    like($err, qr/run \d+ of job "three".*three: succeeded.*run \d+ succeeded/s, "$where: and prints what happens (its start, if it lasts)");
    is(events("exec-$where"), join(' ', map { "$_\@$where" } qw(start end)), "$where: it began at its last step");
    $f->fails("CALL fleet.execute_job('fails'$at)", '09000', "$where: a failure is an error", help => 1, like => qr/job "fails" did not succeed: run \d+ is failed.*DETAIL:  fails: failed \(22012\): division by zero/s);

    # cancel
    $id = $f->sql(qq{SELECT fleet.start_job('three', params => '{"key": "cancel-$where"}'$at)});
    $f->wait_started("cancel-$where");
    is($f->sql("SELECT fleet.cancel_job_run($id)"), 't', "$where: it can be canceled");
    ended($id, 'canceled', "$where: and stops");
    is($f->sql("SELECT fleet.cancel_job_run($id)"), 'f', "$where: which it then has");
}

# Asked for while its server is away, under one agent, and started under the next.
for my $where (qw(a1 d1))
{
    $f->sql("SELECT fleet.set_server_state('$where', 'offline')");
    my $id = $f->sql(qq{SELECT fleet.start_job('three', params => '{"key": "later-$where"}', server => '$where', start_step => 'three')});
    my $run = $f->sql("SELECT run_id FROM fleet.job_run WHERE job_run_id = $id");
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND state = 'queued'", '1', "$where: it waits for its server");
    other_agent("$where, offline");
    $f->release("later-$where");
    $f->sql("SELECT fleet.set_server_state('$where', 'online')");
    $f->run_is($run, 'succeeded', "$where: a run that can be waited for");
    is(events("later-$where"), "start\@$where end\@$where", "$where: it began at its last step, after all");
    is($f->sql("SELECT package IS NULL, job, job_run_id = $id FROM fleet.run WHERE run_id = $run"), 't|three|t', "$where: fleet.run says what it is");
    is($f->sql("SELECT server FROM fleet.job_run WHERE job_run_id = $id"), $where, "$where: fleet.job_run says where it was");
}

# A member of a group; a job that only the server has.
$f->release('group');
ended($f->sql(q{SELECT fleet.start_job('three', params => '{"key": "group"}', on_group => 'all')}), 'succeeded', 'on a group');
like(events('group'), qr/^one\@(a1|d1) two\@\1 start\@\1 end\@\1$/, 'it ran on one of its members');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_job('there'); SELECT fleet.add_step('there', 's', $$SELECT etl.work()$$)});
ended($f->sql(q{SELECT fleet.start_job('there', params => '{"key": "there"}', server => 'a1')}), 'succeeded', 'a job that only the server has');
is(events('there'), 'start@a1 end@a1', 'it ran there');
$f->fails(q{SELECT fleet.start_job('there', server => 'd1')}, '42704', 'a direct server has none', help => 1);
$f->fails(q{SELECT fleet.start_job('there', server => 'a1', start_step => 's')}, '42704', 'its steps are not known here', help => 1);

# A restart has a number of its own; nothing is learned of single jobs, and no package is left.
my $id = $f->sql(q{SELECT fleet.start_job('fails', server => 'd1')});
ended($id, 'failed', 'one that fails');
my $again = $f->sql("SELECT fleet.restart_run(run_id) FROM fleet.job_run WHERE job_run_id = $id");
$f->run_is($again, 'failed', 'can be restarted');
is($f->sql("SELECT job || ' ' || (job_run_id > $id) FROM fleet.run WHERE run_id = $again"), 'fails true', 'with a number of its own');
$f->fails("SELECT fleet.restart_run($again, definition => 'current')", '55000', 'but not with another definition', help => 1);
is($f->sql(q{SELECT count(*) FROM fleet_catalog.duration WHERE package = ''}), '0', 'nothing is learned of them');
is($f->sql(q{SELECT count(*) FROM fleet_catalog.package}), '0', 'and there is no package');

# ---- who may -----------------------------------------------------------------------------------

$f->sql(q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE team; GRANT team TO bob});
$f->sql(q{SET ROLE team; SELECT fleet.create_job('ours'), fleet.add_step('ours', 's', $$SELECT etl.work()$$)});
$f->fails(q{SELECT fleet.start_job('ours')}, '42501', 'who is not a member of its owner may not start it', as => 'alice', help => 1);
$f->fails(q{SELECT fleet.start_job('ours', server => 'd1')}, '42501', 'nor on a server', as => 'alice', help => 1);
$f->fails(q{CALL fleet.execute_job('ours', server => 'd1')}, '42501', 'nor execute it', as => 'alice', help => 1);
$f->fails(q{SELECT fleet.start_job('ours', server => 'd1')}, '42501', 'a member may, but on servers that he may use only', as => 'bob', help => 1);
$f->fails("SELECT fleet.cancel_job_run($id)", '42704', 'and of what others started he knows nothing', as => 'bob', help => 1);
$f->sql(q{GRANT USAGE ON FOREIGN SERVER d1 TO team});
my $ours = q{SELECT fleet.start_job('ours', params => '{"key": "ours"}', server => 'd1')};
$id = $f->sql_as('bob', $ours);
ended($id, 'failed', 'without a user mapping of its owner it fails');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.job_run WHERE job_run_id = $id"), '42704 role "team" has no user mapping for foreign server "d1"', 'and says why');
$f->sql("CREATE USER MAPPING FOR team SERVER d1 OPTIONS (user 'etl', password '$FleetTest::PASSWORD')");
$id = $f->sql_as('bob', $ours);
ended($id, 'succeeded', 'with one it runs');
is($f->sql_as('bob', "SELECT owner || ' ' || requested_by FROM fleet.job_run WHERE job_run_id = $id"), 'team bob', 'with the rights of the owner of the job, at his request');

$f->done;
