# Quotas by role: what one role has queued, at which priority, and what runs of it, keeps no other role waiting, and nothing
# that it may ask for is more than it may have.  After an end of the agent too.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 0, delays => 0, witness => 0);
$f->sql('CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE root LOGIN SUPERUSER');
my %sleeps = (sql => q{sql => 'SELECT pg_sleep(86400)'}, for_each => q{sql => 'SELECT 1', for_each => 'SELECT 1 AS n FROM pg_sleep(86400)'});
sub package_of { my ($role, $name, $task, $more) = @_; $f->sql_as($role, "SELECT fleet.create_package('$name'" . ($more // '') . "); SELECT fleet.add_task('$name', 't', $task)"); return; }
sub start { my ($role, $name, $more) = @_; return $f->sql_as($role, "SELECT fleet.run_parent_package('$name'" . ($more // '') . ')'); }
sub refused { my ($role, $call, $why, $like) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $f->fails("SELECT $call", '53400', $why, as => $role, like => $like, help => 1); return; }
# A package of one line with a loop and a condition, and a job, of this role: they begin and end.
sub goes_on
{
    my ($role, $when) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->run_is(start($role, "$role goes"), 'succeeded', "$when: a package of $role runs");
    $f->run_is(start($role, "$role loops"), 'succeeded', "$when: ... one with queries");
    my $job = $f->sql_as($role, "SELECT fleet.start_job('$role job')");
    $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job", 'succeeded', "$when: ... and a job");
    return;
}
sub cancel_all
{
    my ($role) = @_;
    $f->sql("SELECT count(fleet.cancel_run(run_id)) FROM fleet.run WHERE owner = '$role' AND finished_at IS NULL; SELECT count(fleet.cancel_job_run(job_run_id)) FROM fleet.job_run WHERE owner = '$role' AND finished_at IS NULL");
    $f->wait_for('parent', "SELECT (SELECT count(*) FROM fleet.run WHERE owner = '$role' AND finished_at IS NULL) + (SELECT count(*) FROM fleet.job_run WHERE owner = '$role' AND finished_at IS NULL)", '0', "what $role has open is canceled");
    return;
}
sub steps { my ($role) = @_; return "SELECT count(*) FROM pg_stat_activity WHERE usename = '$role' AND query LIKE '%pg_sleep(86400)%' AND state = 'active'"; }
for my $role (qw(alice bob))
{
    package_of($role, "$role goes", q{sql => 'SELECT 1'});
    package_of($role, "$role loops", q{sql => 'SELECT 1', for_each => 'SELECT 1 AS n'});
    $f->sql_as($role, "SELECT fleet.add_task('$role loops', 'u', sql => 'SELECT 1'); SELECT fleet.add_precedence('$role loops', 't', 'u', condition => '1 = 1')");
    $f->sql_as($role, "SELECT fleet.create_job('$role job'); SELECT fleet.add_step('$role job', 's', 'SELECT 1')");
    package_of($role, "$role sleeps", $sleeps{sql});
    package_of($role, "$role asks", $sleeps{for_each});
    $f->sql_as($role, "SELECT fleet.create_job('$role naps'); SELECT fleet.add_step('$role naps', 's', 'SELECT pg_sleep(86400)')");
}

# ---- who may set them ----------------------------------------------------------------------------

$f->fails("SELECT fleet.set_quota('alice', max_runners => 5)", '42501', 'nobody sets his own quota', as => 'alice', help => 1);
$f->fails('SELECT fleet.drop_quota(NULL)', '42501', '... nor that of everybody', as => 'alice', help => 1);
$f->sql(q{SELECT fleet.set_quota(NULL, max_priority => 50); SELECT fleet.set_quota('alice', max_open_runs => 3); SELECT fleet.set_quota('alice', max_runners => 5); SELECT fleet.set_quota('bob', max_open_runs => 900); SELECT fleet.set_quota('bob', max_log_mb => 7)});
my $all = q{SELECT string_agg(concat_ws(' ', coalesce(role, '-'), coalesce(max_open_runs::text, '.'), coalesce(max_active_runs::text, '.'), coalesce(max_priority::text, '.'), coalesce(max_runners::text, '.'), coalesce(max_log_mb::text, '.')), ', ' ORDER BY role) FROM fleet.quota};
is($f->sql($all), 'alice 3 . . 5 ., bob 900 . . . 7, - . . 50 . .', 'each value by itself');
is($f->sql_as('alice', $all), 'alice 3 . . 5 ., - . . 50 . .', 'a role sees its own');
is($f->sql(q{SELECT fleet.drop_quota('bob') || ' ' || fleet.drop_quota('bob')}), 'true false', 'dropped');

# ---- open runs -----------------------------------------------------------------------------------

$f->sql_as('alice', q{SELECT fleet.create_package('outer'); SELECT fleet.add_task('outer', 'in', nested => 'alice sleeps'); SELECT fleet.add_task('outer', 'too', nested => 'alice sleeps')});
my $outer = start('alice', 'outer', q{, run_key => 'k'});
my $ended = start('alice', 'alice goes');
is($f->wait_run($ended), 'succeeded', 'one that has ended');
$f->sql("SELECT fleet.cancel_run(run_id) FROM fleet.run WHERE run_id = $ended");
$f->wait_for('parent', steps('alice'), '2', 'its parts are under way');
my $job = $f->sql_as('alice', q{SELECT fleet.start_job('alice naps')});
start('alice', 'alice sleeps');
refused('alice', $_, "of three that may be open the fourth: $_", qr/role "alice" has too many open runs.*It has 3, queued and running, and may have 3/s)
  for q{fleet.run_parent_package('alice goes')}, q{fleet.start_job('alice job')}, q{fleet.run_parent_package('alice goes', run_at => now() + '1 h')}, q{fleet.backfill('alice goes', now(), now())};
is(start('alice', 'outer', q{, run_key => 'k'}), $outer, 'a key that is known still gives its run');
goes_on('bob', 'one role has reached its quota');
$f->sql_as('alice', "SELECT fleet.cancel_job_run($job)");
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job", 'canceled', 'one ends');
my $third = start('alice', 'alice sleeps');
ok($third, '... and makes room');
$f->sql_as('alice', "SELECT fleet.cancel_run($third)");
is($f->wait_run($third), 'canceled', '... as one more end does');
my $last = start('alice', 'alice sleeps');
refused('alice', "fleet.restart_run($third)", 'a restart is one more', qr/too many open runs/);
$f->sql(q{SELECT fleet.set_quota('alice', max_open_runs => 4)});
ok($f->sql_as('alice', "SELECT fleet.restart_run($third)"), '... and begins when the quota says so');
cancel_all('alice');
$f->sql(q{SELECT fleet.drop_quota('alice')});
$f->sql(q{SELECT fleet.set_quota(NULL, max_open_runs => 0)});
refused('bob', q{fleet.start_job('bob job')}, 'everybody has what is said of all', qr/has 0.*may have 0/s);
$f->sql_as('root', q{SELECT fleet.create_package('of root', priority => 1000); SELECT fleet.add_task('of root', 't', sql => 'SELECT 1')});
$f->run_is(start('root', 'of root'), 'succeeded', '... and a superuser no quota');
$f->sql(q{SELECT fleet.set_quota('root', max_open_runs => 0)});
refused('root', q{fleet.run_parent_package('of root')}, '... unless it is his own', qr/role "root"/);

# ---- priority ------------------------------------------------------------------------------------

$f->sql('SELECT fleet.drop_quota(NULL)');
my $above = qr/priority is above the quota of role "alice": 101.*at most 100/s;
refused('alice', $_, "above the default: $_", $above)
  for q{fleet.run_parent_package('alice goes', priority => 101)}, q{fleet.create_package('urgent', priority => 101)}, q{fleet.alter_package('alice goes', priority => 101)};
$f->run_is(start('alice', 'alice goes', ', priority => 100'), 'succeeded', 'up to the default');
$f->sql(q{SELECT fleet.set_quota('alice', max_priority => 101)});
$f->run_is(start('alice', 'alice goes', ', priority => 101'), 'succeeded', 'one may have more');
$f->sql(q{SELECT fleet.set_quota('alice', max_priority => -5)});
refused('alice', q{fleet.run_parent_package('alice goes', priority => 0)}, 'or less', qr/at most -5/);
$f->sql(q{SELECT fleet.drop_quota('alice')});

# ---- runners: eight sleeping steps of one role ---------------------------------------------------

for my $how ('sleeps', 'asks', 'naps')
{
    for (1 .. 10) { $how eq 'naps' ? $f->sql_as('alice', q{SELECT fleet.start_job('alice naps')}) : start('alice', "alice $how"); }
    $f->wait_for('parent', steps('alice'), '7', "alice $how: seven of eight runners");
    goes_on('bob', "alice $how");
    is($f->sql(steps('alice')), '7', '... and no eighth one');
    if ($how ne 'asks') # what reads is not taken over by the next agent, but asked anew
    {
        my $pid = $f->agent_pid('parent');
        $f->sql("SELECT pg_terminate_backend($pid)");
        $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', '... the agent ends');
        goes_on('bob', "alice $how, after the end of the agent");
        is($f->sql(steps('alice')), '7', '... and still no eighth one');
    }
    $f->sql(q{SELECT fleet.set_quota('alice', max_runners => 8)});
    $f->wait_for('parent', steps('alice'), '8', '... who may have all takes all');
    cancel_all('alice');
    $f->sql(q{SELECT fleet.set_quota('alice', max_runners => 2)});
    for (1 .. 4) { $how eq 'naps' ? $f->sql_as('alice', q{SELECT fleet.start_job('alice naps')}) : start('alice', "alice $how"); }
    $f->wait_for('parent', steps('alice'), '2', '... or two');
    goes_on('bob', '... and then');
    is($f->sql(steps('alice')), '2', '... and no third one');
    cancel_all('alice');
    $f->sql(q{SELECT fleet.drop_quota('alice')});
}
# all at once: what waits of one role is not in the way of what another one asks for, whatever it is
start('alice', "alice $_") for ('sleeps', 'asks') x 5;
$f->sql_as('alice', q{SELECT fleet.start_job('alice naps') FROM generate_series(1, 10)});
$f->wait_for('parent', steps('alice'), '7', 'all at once: seven');
goes_on('bob', 'all at once');
cancel_all('alice');

# ---- runs: 1,200 of a priority of its own choice -------------------------------------------------

$f->sql_as('alice', q{SELECT fleet.run_parent_package('alice sleeps', priority => 100) FROM generate_series(1, 1200)});
my $running = q{SELECT count(*) FROM fleet.run WHERE owner = 'alice' AND state = 'running'};
$f->wait_for('parent', $running, '500', 'half of the runs that may be active');
goes_on('bob', '1,200 runs');
my $reached = q{SELECT string_agg(message, ',') FROM fleet.event WHERE kind = 'quota_reached'};
is($f->sql($reached), 'runs of role "alice" wait: 500 may be active at a time', '... one event says so');
is($f->sql_as($_->[0], $reached), $_->[1], "... which $_->[0] sees, or not") for [ alice => $f->sql($reached) ], [ bob => '' ];
is($f->sql($running), '500', '... and no more');
$f->sql(q{SELECT fleet.set_quota('alice', max_active_runs => 502)});
$f->wait_for('parent', $running, '502', '... which is another number if the quota says so');
goes_on('bob', 'two more');
cancel_all('alice');
goes_on($_, 'in the end') for qw(alice bob);
$f->done;

