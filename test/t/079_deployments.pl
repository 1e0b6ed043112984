# Deployments of two parents to one server, by the same role there: nobody replaces what another one has deployed, unless he
# says so; what is deployed is removed again; what belongs to the server stays.  Runs do not need any of it.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 0, slots => 4, delays => 0);
# the other parent
$f->{nodes}{other} = $f->make_node('other');
$f->prepare_database('other');
$f->sql_on('other', sprintf q{SELECT fleet.add_server('a1', %s, username => 'etl', password => '%s', groups => '{agents}')}, FleetTest::quote_literal($f->conninfo('a1')), $FleetTest::PASSWORD);

sub define { my ($on, $job, $sql) = @_; $f->sql_on($on, "SELECT fleet.create_job('$job'); SELECT fleet.add_step('$job', 's1', " . FleetTest::quote_literal($sql) . ')'); return; }
sub change { my ($on, $job, $sql) = @_; $f->sql_on($on, "SELECT fleet.drop_step('$job', 's1'); SELECT fleet.add_step('$job', 's1', " . FleetTest::quote_literal($sql) . ')'); return; }
# What the newest request became.
sub outcome
{
    my ($on, $call) = @_;
    $f->sql_on($on, "SELECT * FROM fleet.$call");
    my ($job) = $call =~ /'(\w+)'/;
    $f->wait_for($on, "SELECT count(*) FROM fleet.deployment WHERE job = '$job' AND state = 'queued'", '0', "$on: $call has an outcome");
    return $f->sql_on($on, "SELECT state || coalesce(': ' || message, '') FROM fleet.deployment WHERE job = '$job'");
}
sub there { my ($job) = @_; return $f->sql_on('a1', "SELECT count(*) FROM fleet.job WHERE job = '$job'"); }

# ---- two parents -------------------------------------------------------------------------------

define('parent', 'j', q{SELECT 'first'});
define('other', 'j', q{SELECT 'other'});
is(outcome('parent', q{deploy_job('j', server => 'a1')}), 'deployed', 'a parent deploys a job');
my $uuid = $f->sql('SELECT parent_uuid FROM fleet_catalog.identity');
like(outcome('other', q{deploy_job('j', server => 'a1')}), qr/^failed: job "j" was deployed to this server from parent .*$uuid/, 'another parent does not replace it, and is told whose it is');
is($f->sql_on('a1', q{SELECT deployed_from FROM fleet.job WHERE job = 'j'}), $uuid, 'it is as it was');
like(outcome('other', q{undeploy_job('j', server => 'a1')}), qr/^failed: job "j" was deployed .*$uuid/, 'nor does it remove it');
for my $on (qw(parent other))
{
    $f->sql_on($on, q{SELECT fleet.create_package('p'); SELECT fleet.add_task('p', 't', job => 'j', server => 'a1')});
    my $run = $f->sql_on($on, q{SELECT fleet.run_parent_package('p')});
    $f->wait_for($on, "SELECT state || ' ' || coalesce(output, '') FROM fleet.task_run WHERE run_id = $run", $on eq 'other' ? 'succeeded other' : 'succeeded first', "$on: a run has its own version");
}
is(outcome('other', q{deploy_job('j', server => 'a1', replace => true)}), 'deployed', 'it replaces it if it says so');
is($f->sql_on('a1', q{SELECT deployed_from FROM fleet.job WHERE job = 'j'}), $f->sql_on('other', 'SELECT parent_uuid FROM fleet_catalog.identity'), 'and it is its own');
like(outcome('parent', q{deploy_job('j', server => 'a1')}), qr/^failed: /, 'then the first does not replace it');
is(outcome('other', q{undeploy_job('j', server => 'a1')}), 'removed', 'who has deployed it removes it');
is(there('j'), '0', 'it is gone');
is(outcome('other', q{undeploy_job('j', server => 'a1')}), 'removed', 'which it may be asked for again');

# ---- only with what is deployed ----------------------------------------------------------------

$f->fails(q{SELECT fleet.run_parent_package('p', require_deployed => true)}, '55000', 'a run that needs it deployed is refused', help => 1, like => 'Server "a1": job "j"');
is(outcome('parent', q{deploy_job('j', on_group => 'agents')}), 'deployed', 'it is deployed');
$f->run_is($f->sql(q{SELECT fleet.run_parent_package('p', require_deployed => true)}), 'succeeded', 'then it runs');
change('parent', 'j', q{SELECT 'changed'});
is($f->sql(q{SELECT drift FROM fleet.deployment WHERE job = 'j'}), 't', 'it is changed: the deployment says so');
$f->fails(q{SELECT fleet.run_parent_package('p', require_deployed => true)}, '55000', 'and is the wrong version', help => 1);
$f->sql(q{SELECT fleet.create_package('outside'); SELECT fleet.add_task('outside', 'n', nested => 'p')});
$f->fails(q{SELECT fleet.run_parent_package('outside', require_deployed => true)}, '55000', 'in a nested package, too', help => 1);
$f->run_is($f->sql(q{SELECT fleet.run_parent_package('p')}), 'succeeded', 'without that, it runs as it is here');

# ---- removal -----------------------------------------------------------------------------------

# with its packages; not while it is used
$f->package('inner', i => { sql => q{SELECT 'inner'} });
$f->sql(q{SELECT fleet.create_job('outer'); SELECT fleet.add_step('outer', 's', package => 'inner')});
is(outcome('parent', q{deploy_job('outer', server => 'a1')}), 'deployed', 'a job with a package is deployed');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.set_retention('inner', keep_days => 7); SELECT fleet.pause(package => 'inner', reason => 'by hand')});
$f->sql(q{SELECT fleet.add_task('inner', 'more', sql => 'SELECT 2')});
is(outcome('parent', q{deploy_job('outer', server => 'a1')}), 'deployed', 'it is deployed again');
is($f->sql_on('a1', q{SELECT k.keep_days || ' ' || q.reason FROM fleet_catalog.retention AS k JOIN fleet_catalog.package AS p USING (package_id) JOIN fleet_catalog.pause AS q ON q.package = p.name WHERE p.name = 'inner'}),
    '7 by hand', 'its pause and its retention on the server stay');
is($f->sql_on('a1', q{SELECT count(*) FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p USING (package_id) WHERE p.name = 'inner'}), '2', 'and it is the new version');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.resume(package => 'inner')});
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_package('user'); SELECT fleet.add_task('user', 't', job => 'outer')});
like(outcome('parent', q{undeploy_job('outer', server => 'a1')}), qr/^deployed: job "outer" is used on this server/, 'what is used there is not removed');
$f->sql_on('a1', q{SELECT fleet.drop_package('user')});
is(outcome('parent', q{undeploy_job('outer', server => 'a1')}), 'removed', 'then it is');
is(there('outer') . $f->sql_on('a1', q{SELECT count(*) FROM fleet_catalog.package WHERE name = 'inner'}), '00', 'with its package');

define('parent', 'slow', 'SELECT etl.work_until_released()');
is(outcome('parent', q{deploy_job('slow', server => 'a1')}), 'deployed', 'a job that takes long');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.start_job('slow', params => '{"key": "slow"}')});
$f->wait_started('slow', 1);
like(outcome('parent', q{undeploy_job('slow', server => 'a1')}), qr/^deployed: job "slow" is running/, 'what runs is not removed');
my ($rc, $out, $err) = $f->try_as(undef, q{SELECT fleet.drop_job('slow')});
like($err, qr/NOTICE:.*job "slow" is still deployed\n.*"a1"/s, 'who drops it here is told where it is still');
$f->release('slow');
$f->wait_for('a1', q{SELECT state FROM fleet.job_run WHERE job = 'slow'}, 'succeeded', 'it ends');
is(outcome('parent', q{undeploy_job('slow', server => 'a1')}), 'removed', 'and is removed, though it is not defined here any more');
$f->fails(q{SELECT * FROM fleet.undeploy_job('nothing', server => 'a1')}, '42704', 'a job that never was', help => 1);
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_job('own'); SELECT fleet.add_step('own', 's', 'SELECT 1')});
define('parent', 'own', 'SELECT 1');
like(outcome('parent', q{undeploy_job('own', server => 'a1')}), qr/^failed: job "own" was not deployed/, 'what the server has defined is not removed');

# the agent ends between request and outcome
is(outcome('parent', q{deploy_job('j', server => 'a1')}), 'deployed', 'once more');
my $pid = $f->agent_pid('parent');
$f->sql("SELECT pg_terminate_backend($pid)");
is(outcome('parent', q{undeploy_job('j', server => 'a1')}), 'removed', 'the next agent does it');
is(there('j'), '0', 'as asked for');

$f->sql_on('other', q{SELECT fleet.remove_server('a1', cascade => true)});
$f->wait_for('a1', q{SELECT count(*) < 2 FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%' AND backend_type = 'client backend'}, 't', 'the other parent has left');
$f->done;
