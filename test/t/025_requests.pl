# Mode agent, what a server does with requests, sent by hand as a link sends them: a token once, bound
# to parent, role and job; results kept until their parent acknowledges them; an epoch that is over is
# refused in every request; starts and cancels over an end of the server's agent.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, preload => 1, register => 0, delays => 0);
$f->sql_as('etl', <<'SQL', on => 'a1');
SELECT fleet.create_job('work');
SELECT fleet.add_step('work', 's', 'SELECT etl.work()');
SELECT fleet.create_job('hold');
SELECT fleet.add_step('hold', 's', 'SELECT etl.work_until_released()');
SELECT fleet.create_job('other');
SELECT fleet.add_step('other', 's', $$SELECT etl.witness('other')$$);
SQL

# What the server has of this token: how many job runs, and in which state.
sub there
{
    my ($token) = @_;
    return $f->sql_on('a1', "SELECT count(*) || coalesce(' ' || min(state), '') FROM fleet.job_run WHERE token = '$token'");
}

my $parent = '00000000-0000-0000-0000-0000000000aa';
my $other_parent = '00000000-0000-0000-0000-0000000000bb';
my $n = 0;
sub uuid { return sprintf '00000000-0000-0000-0000-0000000%05d', 10000 + ++$n; }

# agent_start() as a role: known, SQLSTATE, message
sub start_as
{
    my ($role, $from, $epoch, $uuid, $job) = @_;
    return $f->sql_as($role, <<"SQL", on => 'a1');
SELECT concat_ws(' ', known, sqlstate, message) FROM fleet_link.agent_start('$from', $epoch, ARRAY['$uuid']::uuid[], ARRAY['$job'], ARRAY['{"key": "$uuid"}']::jsonb[])
SQL
}
$f->sql_on('a1', 'CREATE ROLE stranger LOGIN');
for my $hello ([ 'etl', $parent, 5 ], [ 'etl', $other_parent, 1 ], [ 'stranger', $parent, 5 ], [ 'stranger', $other_parent, 1 ])
{
    $f->sql_as($hello->[0], "SELECT agent_protocol FROM fleet_link.agent_hello(2, '$hello->[1]', $hello->[2], 'by hand')", on => 'a1');
}
$f->sql_as('stranger', q{SELECT fleet.create_job('strange'); SELECT fleet.add_step('strange', 's', 'SELECT 1')}, on => 'a1');
my $work = uuid();
is(start_as('etl', $parent, 5, $work, 'work'), 'f', 'by hand: a new token starts the job');
$f->wait_for('a1', "SELECT state FROM fleet.job_run WHERE token = '$work'", 'succeeded', 'by hand: which runs');
is(start_as('etl', $parent, 5, $work, 'work'), 't', 'by hand: the second time it is known');
is(there($work), '1 succeeded', 'by hand: one job run');
is($f->witnessed($work, 'start'), 1, 'by hand: one start');
my $pair = uuid();
is($f->sql_as('etl', <<"SQL", on => 'a1'), '2 1 0', 'by hand: twice in one request is one job run');
SELECT count(job_run_id) || ' ' || count(DISTINCT job_run_id) || ' ' || count(sqlstate) FROM fleet_link.agent_start('$parent', 5,
    ARRAY['$pair', '$pair']::uuid[], ARRAY['work', 'work'], NULL)
SQL
$f->wait_for('a1', "SELECT string_agg(state, ' ') FROM fleet.job_run WHERE token = '$pair'", 'succeeded', 'by hand: which runs');
is(start_as('etl', $parent, 5, uuid(), 'no_such_job'), 'f 42704 job "no_such_job" does not exist', 'by hand: a job that is not there is refused with its reason');

# a token is bound to parent, role and job
is(start_as('etl', $other_parent, 1, $work, 'work'), 'f 42710 the token belongs to another parent', 'a token of another parent is refused');
is(start_as('etl', $parent, 5, $work, 'other'), 'f 42710 the token belongs to another role or job', 'a token of another job is refused');
is(start_as('stranger', $parent, 5, $work, 'strange'), 'f 42710 the token belongs to another role or job', 'a token of another role is refused');
my $taken = uuid();
is(start_as('stranger', $parent, 5, $taken, 'strange'), 'f', 'a token that a stranger took first');
is(start_as('etl', $parent, 5, $taken, 'work'), 'f 42710 the token belongs to another role or job', 'is not taken for a start of ours');
my $forestalled = uuid();
$f->sql_as('stranger', "SELECT fleet_link.agent_cancel('$parent', 5, ARRAY['$forestalled']::uuid[])", on => 'a1');
is(there($forestalled), '1 canceled', 'a token that a stranger canceled before it came');
is(start_as('etl', $parent, 5, $forestalled, 'work'), 'f 42710 the token belongs to another role or job', 'is not taken for a cancel of ours');
# the same, if etl sees whatever is there
$f->sql_on('a1', 'GRANT fleet_reader TO etl');
is(start_as('etl', $parent, 5, $taken, 'work'), 'f 42710 the token belongs to another role or job', 'a reader: it is not taken for a start of ours');
is(start_as('etl', $parent, 5, $forestalled, 'work'), 'f 42710 the token belongs to another role or job', 'a reader: nor for a cancel of ours');
is($f->sql_as('etl', "SELECT count(job_run_id) FROM fleet_link.agent_resume('$parent', 5, ARRAY['$taken', '$forestalled']::uuid[])", on => 'a1'), '0', 'a reader: nor are they attached to');
$f->sql_on('a1', 'REVOKE fleet_reader FROM etl');
# a role that may act as who owns the job is another one for a start, and not for what has begun: a mapping may have changed
$f->sql_on('a1', 'CREATE ROLE etl2 LOGIN; GRANT etl TO etl2');
$f->sql_as('etl2', "SELECT agent_protocol FROM fleet_link.agent_hello(2, '$parent', 5, 'by hand')", on => 'a1');
is(start_as('etl2', $parent, 5, $work, 'work'), 'f 42710 the token belongs to another role or job', 'a member of the role does not start with its token');
is($f->sql_as('etl2', "SELECT count(job_run_id) FROM fleet_link.agent_resume('$parent', 5, ARRAY['$work']::uuid[])", on => 'a1'), '1', 'but attaches to what it has begun');
is($f->witnessed($taken, 'start'), 0, 'nothing of ours ran for it');
is(there($work), '1 succeeded', 'and the job run is as it was');

# nobody else reads, stops or acknowledges
my $open = uuid();
is(start_as('etl', $parent, 5, $open, 'hold'), 'f', 'a job that runs');
$f->wait_started($open);
my $id = $f->sql_on('a1', "SELECT job_run_id FROM fleet.job_run WHERE token = '$open'");
for my $who ([ 'etl', $other_parent, 1, 'another parent' ], [ 'stranger', $parent, 5, 'another role' ])
{
    my ($role, $from, $epoch, $name) = @$who;
    is($f->sql_as($role, "SELECT count(job_run_id) FROM fleet_link.agent_resume('$from', $epoch, ARRAY['$open']::uuid[])", on => 'a1'), '0', "$name does not find it");
    is($f->sql_as($role, "SELECT count(*) FROM fleet_link.agent_fetch('$from', $epoch, ARRAY[$id], ARRAY[0])", on => 'a1'), '0', "$name reads nothing of it");
    $f->sql_as($role, "SELECT fleet_link.agent_cancel('$from', $epoch, ARRAY['$open']::uuid[])", on => 'a1');
    $f->sql_as($role, "SELECT fleet_link.agent_acknowledge('$from', ARRAY['$work']::uuid[])", on => 'a1');
    is($f->sql_on('a1', "SELECT count(*) FROM fleet_catalog.cancel_request WHERE job_run_id = $id"), '0', "$name does not stop it");
    is($f->sql_on('a1', "SELECT count(acknowledged_at) FROM fleet.job_run WHERE token = '$work'"), '0', "$name acknowledges nothing");
}
$f->sql_as('etl', "SELECT fleet_link.agent_acknowledge('$parent', ARRAY['$work', '$open']::uuid[])", on => 'a1');
is($f->sql_on('a1', "SELECT string_agg(job, ' ') FROM fleet.job_run WHERE token IN ('$work', '$open') AND acknowledged_at IS NOT NULL"), 'work',
    'its parent acknowledges what has ended, and not what runs');
is($f->sql_as('etl', "SELECT string_agg(ord || ' ' || (job_run_id IS NOT NULL) || ' ' || state, ', ' ORDER BY ord) FROM fleet_link.agent_resume('$parent', 5, ARRAY['$work', '$open']::uuid[])",
        on => 'a1'), '1 true 11, 2 true 3', 'which is still known, with its state');

# ---- the server's agent ends with what it was told ---------------------------------------------

# It has read a start and not committed; cancels come meanwhile; nobody tells the next agent of them.
my ($canceled, $stopped) = (uuid(), uuid());
is(start_as('etl', $parent, 5, $stopped, 'hold'), 'f', 'away: another job that runs');
$f->wait_started($stopped);
$f->wait_for('a1', "SELECT state FROM fleet.job_run WHERE token = '$stopped'", 'running', 'away: which is stored as running');
$f->point('a1', 'agent_before_commit', 'wait');
is(start_as('etl', $parent, 5, $canceled, 'work'), 'f', 'away: a start');
$f->point_waits('a1', 'agent_before_commit', 'away: the agent has read it, and not committed');
$f->sql_as('etl', "SELECT fleet_link.agent_cancel('$parent', 5, ARRAY['$canceled', '$stopped']::uuid[])", on => 'a1');
my $pid = $f->agent_pid('a1');
is($f->sql_on('a1', "SELECT pg_terminate_backend($pid, 10000)"), 't', 'away: and ends');
$f->point_release('a1', 'agent_before_commit');
$f->wait_for('a1', "SELECT string_agg(job || ' ' || state, ', ' ORDER BY job) FROM fleet.job_run WHERE token IN ('$canceled', '$stopped')", 'hold canceled, work canceled',
    'away: cancels that were committed meanwhile are carried out');
is($f->witnessed($canceled, 'start'), 0, 'away: what was canceled before it began never did');
is($f->witnessed($stopped, 'end'), 0, 'away: what ran did not come to its end');
$f->wait_for('a1', "SELECT state FROM fleet.job_run WHERE token = '$open'", 'running', 'away: the other one was adopted');

# a changed job is run as it is at its start
my ($before, $after) = (uuid(), uuid());
is(start_as('etl', $parent, 5, $before, 'other'), 'f', 'changed: a job as it was');
$f->wait_for('a1', "SELECT state FROM fleet.job_run WHERE token = '$before'", 'succeeded', 'changed: has ended');
$f->sql_as('etl', q{SELECT fleet.add_step('other', 's2', $$SELECT etl.witness('other 2')$$)}, on => 'a1');
is(start_as('etl', $parent, 5, $after, 'other'), 'f', 'changed: and as it is now');
$f->wait_for('a1', "SELECT state FROM fleet.job_run WHERE token = '$after'", 'succeeded', 'changed: has ended too');
is(join(' ', map { ($f->witnessed($_, 'other'), $f->witnessed($_, 'other 2')) } $before, $after), '1 0 1 1', 'changed: the second start has both steps, the first one');

# ---- fencing -----------------------------------------------------------------------------------

my $late = uuid();
my %request = (
    hello  => sub { "SELECT fleet_link.agent_hello(2, '$_[0]', $_[1], 'old')" },
    start  => sub { "SELECT fleet_link.agent_start('$_[0]', $_[1], ARRAY['$late']::uuid[], ARRAY['work'], NULL)" },
    known  => sub { "SELECT fleet_link.agent_start('$_[0]', $_[1], ARRAY['$work']::uuid[], ARRAY['work'], NULL)" },
    resume => sub { "SELECT fleet_link.agent_resume('$_[0]', $_[1], ARRAY['$open']::uuid[])" },
    fetch  => sub { "SELECT fleet_link.agent_fetch('$_[0]', $_[1], ARRAY[$id], ARRAY[0])" },
    cancel => sub { "SELECT fleet_link.agent_cancel('$_[0]', $_[1], ARRAY['$open', '$late']::uuid[])" },
    deploy => sub { "SELECT fleet_link.agent_deploy('$_[0]', $_[1], '{\"name\": \"late\", \"params\": {}, \"steps\": []}')" });
for my $name (sort keys %request)
{
    $f->fails($request{$name}->($parent, 4), 'FE001', "epoch 4 after 5: $name is refused", as => 'etl', on => 'a1',
        like => qr/epoch 4 of parent $parent has ended(?s:.*)This server has seen epoch 5 of it\./);
    next if $name eq 'hello';
    $f->fails($request{$name}->('00000000-0000-0000-0000-0000000000cc', 4), 'FE001', "a parent that never said hello: $name is refused",
        as => 'etl', on => 'a1', like => qr/This server does not know that parent\./);
}
is(there($late), '0', 'nothing was started by an old epoch');
is($f->sql_on('a1', "SELECT count(*) FROM fleet_catalog.cancel_request WHERE job_run_id = $id"), '0', 'nor canceled');
is($f->sql_on('a1', q{SELECT count(*) FROM fleet_catalog.job WHERE name = 'late'}), '0', 'nor deployed');
is($f->sql_on('a1', "SELECT string_agg(role || ' ' || epoch, ' ' ORDER BY role::text) FROM fleet_catalog.parent WHERE parent_uuid = '$parent'"), 'etl 5 etl2 5 stranger 5',
    'the epoch did not go back');
$f->sql_as('stranger', "SELECT fleet_link.agent_hello(2, '$parent', 99, 'raised by a stranger')", on => 'a1');
is($f->sql_as('etl', "SELECT count(job_run_id) FROM fleet_link.agent_resume('$parent', 5, ARRAY['$open']::uuid[])", on => 'a1'), '1', 'an epoch that another role raises is that role\'s');
$f->sql_as('etl', "SELECT fleet_link.agent_hello(2, '$parent', 6, 'new')", on => 'a1');
$f->fails($request{start}->($parent, 5), 'FE001', 'after the hello of a new epoch the old one is refused', as => 'etl', on => 'a1', like => qr/epoch 5 of parent/);
$f->sql_as('etl', "SELECT fleet_link.agent_cancel('$parent', 6, ARRAY['$open']::uuid[])", on => 'a1');
$f->wait_for('a1', "SELECT state || ' ' || sqlstate FROM fleet.job_run WHERE token = '$open'", 'canceled 57014', 'and the new one cancels');
is($f->witnessed($open, 'end'), 0, 'it did not come to its end');
$f->done;
