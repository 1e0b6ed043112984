# What one role makes hooks and schedules do keeps no other role waiting: runners that its hooks have are its own; the turn goes from role to
# role; what they execute has a size, and is not the agent's to keep.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 0, delays => 0, witness => 0, conf => "fleet.max_runners = 3");
$f->sql('CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE SCHEMA told; GRANT USAGE, CREATE ON SCHEMA told TO PUBLIC; CREATE TABLE told.call (n bigint GENERATED ALWAYS AS IDENTITY, who name DEFAULT current_user, hook text DEFAULT current_setting(\'fleet.context\')::jsonb ->> \'hook\'); GRANT ALL ON told.call TO PUBLIC');
for my $role (qw(ann bob))
{
    $f->sql_as($role, "SELECT fleet.create_package('$role good'); SELECT fleet.add_task('$role good', 't', sql => 'SELECT 1'); SELECT fleet.create_package('$role bad'); SELECT fleet.add_task('$role bad', 't', sql => 'SELECT 1 / 0');
        SELECT fleet.create_package('$role sleeps'); SELECT fleet.add_task('$role sleeps', 't', sql => 'SELECT pg_sleep(86400)')");
}
sub start { my ($package) = @_; my ($role) = $package =~ /^(\w+)/; return $f->sql_as($role, "SELECT fleet.run_parent_package('$package')"); }
sub goes_on { my ($when) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $f->run_is(start('bob good'), 'succeeded', $when); return; }
my $sleeping = q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann' AND query LIKE '%pg_sleep(86400)%' AND backend_type = 'pg_fleet runner' AND state = 'active'};

# ---- runners -------------------------------------------------------------------------------------

# ann may have two of three
start('ann sleeps') for 1 .. 2;
$f->wait_for('parent', $sleeping, '2', 'a role has all the runners that it may');
$f->sql_as('ann', q{SELECT fleet.add_hook('sleeps', sql => 'SELECT pg_sleep(86400)', timeout => '1h', on_event => '{run_canceled}'); SELECT fleet.add_hook('of ann', sql => 'INSERT INTO told.call DEFAULT VALUES', on_event => '{run_started}')});
$f->sql_as('bob', q{SELECT fleet.add_hook('of bob', sql => 'INSERT INTO told.call DEFAULT VALUES', on_event => '{run_started}')});
my $waits = start('ann sleeps');
goes_on('its hook has no further one: another role runs');
$f->wait_for('parent', q{SELECT string_agg(who, ',') FROM told.call}, 'bob', '... and its hooks are called');
$f->sql("SELECT fleet.cancel_run(run_id) FROM fleet.run WHERE owner = 'ann' AND finished_at IS NULL");
$f->wait_for('parent', $sleeping, '1', 'when it has one again, its hook is called');
start('ann sleeps') for 1 .. 2;
$f->wait_for('parent', $sleeping, '2', '... is one of two');
goes_on('and another role runs');
$f->sql_as('ann', q{SELECT fleet.drop_hook('sleeps')});
$f->sql("SELECT fleet.cancel_run(run_id) FROM fleet.run WHERE finished_at IS NULL; SELECT fleet.drop_hook(hook) FROM fleet.hooks");

# ---- turns -----------------------------------------------------------------------------------------

my $lock = FleetTest::Session->new($f->parent, $FleetTest::DB);
$lock->sql('SELECT pg_advisory_lock(1)');
$f->sql('TRUNCATE told.call RESTART IDENTITY');
my $note = q{'SELECT pg_advisory_lock(1), pg_advisory_unlock(1); INSERT INTO told.call DEFAULT VALUES'};
$f->sql_as('ann', "SELECT fleet.add_hook('of ann ' || i, sql => $note, on_event => '{run_failed}') FROM generate_series(1, 20) AS i");
$f->sql_as('bob', "SELECT fleet.add_hook('of bob ' || i, sql => $note, on_event => '{run_failed}') FROM generate_series(1, 2) AS i");
start('ann bad');
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann' AND wait_event_type = 'Lock' AND backend_type = 'pg_fleet runner'}, '1', 'one of many hooks of a role works');
start('bob bad');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.event WHERE kind = 'run_failed'}, '2', 'another role has an event too');
$lock->sql('SELECT pg_advisory_unlock(1)');
$f->wait_for('parent', 'SELECT count(*) FROM told.call', '22', 'all are called');
cmp_ok($f->sql(q{SELECT max(n) FROM told.call WHERE who = 'bob'}), '<', 10, 'its hooks do not wait for all of the other one');
$f->sql('SELECT fleet.drop_hook(hook) FROM fleet.hooks');

# ---- sizes -----------------------------------------------------------------------------------------

my $long = q{'/*' || repeat('"', 999000) || '*/ SELECT pg_sleep(0)'};
$f->fails("SELECT fleet.add_hook('long', sql => $long || repeat(' ', 10000))", '54000', 'what a hook executes has a size', as => 'ann', like => qr/the command is too large/, help => 1);
$f->fails("SELECT fleet.schedule_package('ann good', '\@yearly', params_sql => repeat(' ', 1000000) || '''{}''')", '54000', 'what gives a schedule its parameters too', as => 'ann', like => qr/the command is too large/, help => 1);
my ($before) = $f->agent_memory('parent');
$f->sql_as('ann', "SELECT fleet.add_hook('long ' || i, sql => $long, on_event => '{run_failed}') FROM generate_series(1, 30) AS i");
$f->sql_as('ann', "SELECT fleet.schedule_package('ann good', '\@yearly', name => 's' || i, params_sql => 'SELECT ''{}''::jsonb /*' || repeat('\"', 900000) || '*/') FROM generate_series(1, 30) AS i");
goes_on('many long ones');
cmp_ok(($f->agent_memory('parent'))[0], '<', $before + 5e6, '... are not in the memory of the agent');
start('ann bad');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.hook_call WHERE hook LIKE 'long%' AND state = 'succeeded'}, '30', 'and are executed');
$f->sql(q{SELECT fleet.drop_hook(hook) FROM fleet.hooks; SELECT fleet.unschedule('s' || i) FROM generate_series(1, 30) AS i});
$f->done;
