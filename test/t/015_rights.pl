# (runs long)
# Rights at the moment of use.  A step is the role that it says, whichever step came before it and
# wherever it runs; and a right that was there at the definition, or when the run began, and is gone
# when it is used, is refused: one SQLSTATE, one message, nothing done.  Given back, the same package
# runs again.  In mode direct, in mode agent, and here.  Who did what is the witness's word.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1);
my $pw = $FleetTest::PASSWORD;
my %session = map { $_ => FleetTest::Session->new($f->node($_), $_ eq 'witness' ? $_ : $FleetTest::DB) } qw(parent a1 d1 witness);

sub on { my ($node, $sql) = @_; return $session{$node}->sql($sql); }
sub as { my ($role, $sql) = @_; return here("SET ROLE $role; $sql; RESET ROLE"); }
sub here { return on('parent', @_); }

# On the parent: alice owns the work; batch1 and batch2 are roles that she is a member of.
# There: etl is who alice is, etl_b1 and etl_b2 are who batch1 and batch2 are.
here(<<"SQL");
CREATE ROLE alice LOGIN NOINHERIT; CREATE ROLE batch1 LOGIN; CREATE ROLE batch2 LOGIN; CREATE ROLE owner2 LOGIN;
CREATE ROLE chief LOGIN SUPERUSER;
GRANT batch1, batch2, owner2 TO alice;
GRANT USAGE ON FOREIGN SERVER a1, d1 TO alice, batch1, batch2, owner2, chief;
CREATE USER MAPPING FOR alice SERVER d1 OPTIONS (user 'etl', password '$pw');
CREATE USER MAPPING FOR alice SERVER a1 OPTIONS (user 'etl', password '$pw');
CREATE USER MAPPING FOR owner2 SERVER d1 OPTIONS (user 'etl_b2', password 'two');
CREATE USER MAPPING FOR batch1 SERVER d1 OPTIONS (user 'etl_b1', password 'one');
CREATE USER MAPPING FOR batch2 SERVER d1 OPTIONS (user 'etl_b2', password 'two');
GRANT USAGE ON SCHEMA etl TO PUBLIC;
CREATE SEQUENCE etl.tries; GRANT USAGE ON SEQUENCE etl.tries TO PUBLIC; GRANT INSERT ON etl.effect TO PUBLIC;
SQL
on('a1', <<'SQL');
CREATE ROLE batch1 LOGIN; CREATE ROLE batch2 LOGIN; GRANT batch1, batch2 TO etl;
SQL
on('d1', <<'SQL');
CREATE ROLE etl_b1 LOGIN PASSWORD 'one'; CREATE ROLE etl_b2 LOGIN PASSWORD 'two'; CREATE ROLE alice LOGIN PASSWORD 'alice';
SQL
for my $server (qw(a1 d1))
{
    on($server, 'GRANT USAGE ON SCHEMA etl TO PUBLIC; CREATE SEQUENCE etl.tries; GRANT USAGE ON SEQUENCE etl.tries TO PUBLIC');
}

# ---- helpers -----------------------------------------------------------------------------------

my $seen = 0;

# What was witnessed since the last call: "what server role", in order.
sub events
{
    my @rows = map { [ split /\|/ ] } split /\n/,
      on('witness', "SELECT id, what, server, usr FROM event WHERE id > $seen AND what <> 'release' ORDER BY id");
    $seen = $rows[-1][0] if @rows;
    return join ', ', map { "$_->[1] $_->[2] $_->[3]" } @rows;
}

# Runs it to its end as this role; its tasks: state|SQLSTATE|message
sub outcome
{
    my ($package, $role) = @_;
    $role ||= 'alice';
    my $out = here(<<"SQL");
SET ROLE $role;
SELECT fleet.run_parent_package('$package') AS id \\gset
RESET ROLE;
SELECT fleet.wait_for_run(:id, timeout => '${FleetTest::PATIENCE}s') AS state \\gset
SELECT t.state || '|' || coalesce(t.sqlstate, '') || '|' || coalesce(t.message, '') FROM fleet.task_run AS t WHERE t.run_id = :id ORDER BY t.task_no;
SQL
    return $out;
}

# A local job, started by its owner.
sub job_outcome
{
    my ($job, $role) = @_;
    $role ||= 'alice';
    my $id = as($role, "SELECT fleet.start_job('$job')");
    $f->wait_for('parent', "SELECT finished_at IS NOT NULL FROM fleet.job_run WHERE job_run_id = $id", 't', undef)
      or fail("job $job ends");
    return here("SELECT state || '|' || coalesce(sqlstate, '') || '|' || coalesce(message, '') FROM fleet.job_run WHERE job_run_id = $id");
}

# It runs; a right is taken away; it is refused, and nothing is done; it is given back, and it runs.
# run: what runs it.  ok: what the witness sees of a whole run.  seen: what it sees of the refused one.
sub taken_away
{
    my ($name, %c) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    on($c{on} || 'parent', $c{take});
    my $got = $c{run}->();
    if (ref $c{gives}) { like($got, $c{gives}, "$name: refused"); }
    else { is($got, $c{gives}, "$name: refused"); }
    is(events(), $c{seen} || '', "$name: and nothing is done");
    return unless $c{give};
    on($c{on} || 'parent', $c{give});
    is($c{run}->(), 'succeeded||', "$name: given back, it runs");
    is(events(), $c{ok}, "$name: as it did before");
    return;
}

# ---- who a step is -----------------------------------------------------------------------------

# owner, batch1 (which fails once, and is tried again), owner, batch2, batch1, owner
sub alternating
{
    my ($job) = @_;
    my $sql = "SELECT fleet.create_job('$job');";
    my $n = 0;
    for my $role ('', 'batch1', '', 'batch2', 'batch1', '')
    {
        $n++;
        my $command = "SELECT etl.witness('s$n')" . ($n == 2 ? '; SELECT 1 / (nextval(\'etl.tries\') - 1)' : '');
        $sql .= "SELECT fleet.add_step('$job', 's$n', " . FleetTest::quote_literal($command)
          . ($role ? ", run_as => '$role'" : '') . ($n == 2 ? ", retries => 1, retry_wait => '10ms', retry_sqlstates => '{22012}'" : '') . ');';
    }
    return $sql;
}

sub steps_by
{
    my ($server, $owner, $one, $two) = @_;
    return join ', ', map { "$_->[0] $server $_->[1]" }
      [ 's1', $owner ], [ 's2', $one ], [ 's2', $one ], [ 's3', $owner ], [ 's4', $two ], [ 's5', $one ], [ 's6', $owner ];
}

as('alice', alternating('alternating') . <<'SQL');
SELECT fleet.create_package('on d1'); SELECT fleet.add_task('on d1', 't', job => 'alternating', server => 'd1');
SELECT * FROM fleet.deploy_job('alternating', server => 'a1');
SELECT fleet.create_package('on a1'); SELECT fleet.add_task('on a1', 't', job => 'alternating', server => 'a1');
SQL
$f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'alternating'}, 'deployed', 'a job with run_as is deployed');
is(job_outcome('alternating'), 'succeeded||', 'alternating run_as, here');
is(events(), steps_by('parent', 'alice', 'batch1', 'batch2'), 'here each step is its role, on its retry too, and the owner again after it');
is(outcome('on d1'), 'succeeded||', 'alternating run_as, mode direct');
is(events(), steps_by('d1', 'etl', 'etl_b1', 'etl_b2'), 'on a direct server each step is the user of its role\'s mapping');
is(outcome('on a1'), 'succeeded||', 'alternating run_as, mode agent');
is(events(), steps_by('a1', 'etl', 'batch1', 'batch2'), 'on an agent\'s server each step is its role there');
is(here('SELECT DISTINCT owner, requested_by FROM fleet.job_run'), 'alice|' . here('SELECT session_user'),
    'a job run is its owner\'s; who asked stands beside');

# ---- here --------------------------------------------------------------------------------------

as('alice', <<'SQL');
SELECT fleet.create_job('local'); SELECT fleet.add_step('local', 'own', $$SELECT etl.witness('own')$$);
SELECT fleet.add_step('local', 'as', $$SELECT etl.witness('as')$$, run_as => 'batch1');
SELECT fleet.create_package('sql'); SELECT fleet.add_task('sql', 't', sql => $$SELECT etl.witness('sql')$$);
SELECT fleet.create_package('each');
SELECT fleet.add_task('each', 't', sql => $$SELECT etl.witness('each')$$, for_each => $$SELECT '{}'::jsonb FROM etl.witness('query')$$);
SQL
my %local = (run => sub { job_outcome('local') }, ok => 'own parent alice, as parent batch1', seen => 'own parent alice');
taken_away('here, membership in run_as', %local, take => 'REVOKE batch1 FROM alice', give => 'GRANT batch1 TO alice',
    gives => 'failed|42501|the job\'s owner is no longer a member of role "batch1"');
taken_away('here, LOGIN of run_as', %local, take => 'ALTER ROLE batch1 NOLOGIN', give => 'ALTER ROLE batch1 LOGIN',
    gives => 'failed|28000|role "batch1" is not permitted to log in');
taken_away('here, VALID UNTIL of run_as', %local, take => q{ALTER ROLE batch1 VALID UNTIL 'yesterday'}, give => q{ALTER ROLE batch1 VALID UNTIL 'tomorrow'},
    gives => 'failed|28000|role "batch1" has expired (VALID UNTIL is over)');
taken_away('here, CONNECT of run_as', %local,
    take => 'REVOKE CONNECT ON DATABASE dw FROM PUBLIC; GRANT CONNECT ON DATABASE dw TO alice', give => 'GRANT CONNECT ON DATABASE dw TO PUBLIC',
    gives => 'failed|42501|role "batch1" may not connect to this database');
here('ALTER ROLE batch1 RENAME TO batch9');
is(job_outcome('local'), 'succeeded||', 'here, run_as renamed: the reference follows');
is(events(), 'own parent alice, as parent batch9', 'and it is the same role');
here('ALTER ROLE batch9 RENAME TO batch1');
taken_away('here, LOGIN of the owner', %local, seen => '', take => 'ALTER ROLE alice NOLOGIN', give => 'ALTER ROLE alice LOGIN',
    gives => 'failed|28000|role "alice" is not permitted to log in');

my %sql = (run => sub { outcome('sql') }, ok => 'sql parent alice');
taken_away('sql task, LOGIN of the run\'s owner', %sql, take => 'ALTER ROLE alice NOLOGIN', give => 'ALTER ROLE alice LOGIN',
    gives => 'failed|28000|role "alice" is not permitted to log in');
taken_away('sql task, VALID UNTIL of the run\'s owner', %sql, take => q{ALTER ROLE alice VALID UNTIL '2001-01-01'}, give => q{ALTER ROLE alice VALID UNTIL 'infinity'},
    gives => 'failed|28000|role "alice" has expired (VALID UNTIL is over)');
taken_away('for_each, VALID UNTIL of the run\'s owner', run => sub { (split /\n/, outcome('each'))[0] }, ok => 'query parent alice, each parent alice',
    take => q{ALTER ROLE alice VALID UNTIL '2001-01-01'}, give => q{ALTER ROLE alice VALID UNTIL 'infinity'},
    gives => 'failed|F0001|for_each: role "alice" has expired (VALID UNTIL is over)');

# ---- mode direct -------------------------------------------------------------------------------

# The link and its sessions are there from the run before: that must not help.
as('alice', <<'SQL');
SELECT fleet.create_job('one'); SELECT fleet.add_step('one', 'one', $$SELECT etl.witness('one')$$);
SELECT fleet.create_package('direct'); SELECT fleet.add_task('direct', 't', job => 'one', server => 'd1');
SELECT fleet.create_job('two'); SELECT fleet.add_step('two', 'own', $$SELECT etl.witness('own')$$);
SELECT fleet.add_step('two', 'as', $$SELECT etl.witness('as')$$, run_as => 'batch1');
SELECT fleet.create_package('direct as'); SELECT fleet.add_task('direct as', 't', job => 'two', server => 'd1');
SELECT * FROM fleet.deploy_job('one', server => 'a1'); SELECT * FROM fleet.deploy_job('two', server => 'a1');
SELECT fleet.create_package('agent'); SELECT fleet.add_task('agent', 't', job => 'one', server => 'a1');
SELECT fleet.create_package('agent as'); SELECT fleet.add_task('agent as', 't', job => 'two', server => 'a1');
SQL
$f->wait_for('parent', q{SELECT count(*) FROM fleet.deployment WHERE state = 'deployed'}, '3', 'the jobs are deployed');
for my $case ([ 'd1', 'direct' ], [ 'a1', 'agent' ])
{
    my ($server, $package) = @$case;
    my %c = (run => sub { outcome($package) }, ok => "one $server etl");
    is($c{run}->(), 'succeeded||', "$server: it runs");
    is(events(), $c{ok}, "$server: once, as the mapping's user");
    taken_away("$server, USAGE on the server", %c, take => "REVOKE USAGE ON FOREIGN SERVER $server FROM alice", give => "GRANT USAGE ON FOREIGN SERVER $server TO alice",
        gives => "failed|42501|role \"alice\" has no USAGE on foreign server \"$server\"");
    taken_away("$server, the user mapping", %c, take => "DROP USER MAPPING FOR alice SERVER $server",
        give => "CREATE USER MAPPING FOR alice SERVER $server OPTIONS (user 'etl', password '$pw')",
        gives => "failed|42704|role \"alice\" has no user mapping for foreign server \"$server\"");
    taken_away("$server, the mapping's password", %c, take => "ALTER USER MAPPING FOR alice SERVER $server OPTIONS (DROP password)",
        give => "ALTER USER MAPPING FOR alice SERVER $server OPTIONS (ADD password '$pw')",
        gives => "failed|2F003|the user mapping of role \"alice\" for foreign server \"$server\" has no password, which only superusers may do without");
    taken_away("$server, an empty password", %c, take => "ALTER USER MAPPING FOR alice SERVER $server OPTIONS (SET password '')",
        give => "ALTER USER MAPPING FOR alice SERVER $server OPTIONS (SET password '$pw')",
        gives => "failed|2F003|the user mapping of role \"alice\" for foreign server \"$server\" has no password, which only superusers may do without");
    taken_away("$server, another password", %c, take => "ALTER USER MAPPING FOR alice SERVER $server OPTIONS (SET password 'no more')",
        give => "ALTER USER MAPPING FOR alice SERVER $server OPTIONS (SET password '$pw')",
        gives => qr/^failed\|28P01\|.*password authentication failed for user "etl"$/);
}

# roles of steps on the direct server
my %as = (run => sub { outcome('direct as') }, ok => 'own d1 etl, as d1 etl_b1', seen => 'own d1 etl');
is($as{run}->(), 'succeeded||', 'd1: run_as runs');
is(events(), $as{ok}, 'd1: as the user of that role\'s mapping');
taken_away('d1, membership in run_as', %as, take => 'REVOKE batch1 FROM alice', give => 'GRANT batch1 TO alice',
    gives => 'failed|42501|the job\'s owner is no longer a member of role "batch1"');
taken_away('d1, USAGE of run_as', %as, take => 'REVOKE USAGE ON FOREIGN SERVER d1 FROM batch1', give => 'GRANT USAGE ON FOREIGN SERVER d1 TO batch1',
    gives => 'failed|42501|role "batch1" has no USAGE on foreign server "d1"');
taken_away('d1, mapping of run_as', %as, take => 'DROP USER MAPPING FOR batch1 SERVER d1',
    give => q{CREATE USER MAPPING FOR batch1 SERVER d1 OPTIONS (user 'etl_b1', password 'one')},
    gives => 'failed|42704|role "batch1" has no user mapping for foreign server "d1"');

# a mapping without a user is the role's own name, not the operating system's
here(q{ALTER USER MAPPING FOR alice SERVER d1 OPTIONS (DROP user, SET password 'alice')});
is(outcome('direct'), 'succeeded||', 'd1: options of the mapping that change apply to the next run');
is(events(), 'one d1 alice', 'd1: a mapping without a user is the role\'s own name');
# PUBLIC's mapping is for who has none
here(q{DROP USER MAPPING FOR alice SERVER d1; CREATE USER MAPPING FOR PUBLIC SERVER d1 OPTIONS (user 'etl_b2', password 'two')});
is(outcome('direct'), 'succeeded||', 'd1: PUBLIC\'s mapping is used by who has none');
is(events(), 'one d1 etl_b2', 'd1: as its user');
here("CREATE USER MAPPING FOR alice SERVER d1 OPTIONS (user 'etl', password '$pw')");
is(outcome('direct'), 'succeeded||', 'd1: the role\'s own mapping goes before PUBLIC\'s');
is(events(), 'one d1 etl', 'd1: as its user');
here('DROP USER MAPPING FOR PUBLIC SERVER d1');
# options of the server, too, apply to the next run
here(q{ALTER SERVER d1 OPTIONS (SET dbname 'nowhere')});
like(outcome('direct'), qr/^failed\|3D000\|.*database "nowhere" does not exist$/, 'd1: options of the server that change apply to the next run');
here(q{ALTER SERVER d1 OPTIONS (SET dbname 'dw')});
is(outcome('direct'), 'succeeded||', 'd1: and when they change back');
is(events(), 'one d1 etl', 'd1: once');

# ---- no password: who may, and when it was asked for ------------------------------------------

my $d1 = $f->node('d1');
my $hba = PostgreSQL::Test::Utils::slurp_file($d1->data_dir . '/pg_hba.conf');
sub hba
{
    my ($method) = @_;
    my $text = $hba =~ s/^(host .*)scram-sha-256/$1$method/mr;
    open my $file, '>', $d1->data_dir . '/pg_hba.conf' or die $!;
    print {$file} $text;
    close $file;
    $d1->reload;
    return;
}
my $not_asked = 'refused: the server let the session in without asking for the password of the user mapping; '
  . 'it must ask (scram-sha-256 in its pg_hba.conf) where the role is not a superuser';
hba('trust');
# a new session, since one that asked is still there
on('d1', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%'});
$f->wait_for('d1', q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%'}, '0', 'd1: its sessions are gone');
is(outcome('direct'), "failed|28000|$not_asked", 'd1, a server that does not ask for the password: refused');
is(events(), '', 'd1, a server that does not ask: and nothing is done');
# password_required = false: a superuser says so, on a superuser's server, to this role
here(q{ALTER USER MAPPING FOR alice SERVER d1 OPTIONS (DROP password, ADD password_required 'false')});
is(outcome('direct'), 'succeeded||', 'd1, password_required = false: runs without');
is(events(), 'one d1 etl', 'd1, password_required = false: once');
my $no_password = 'failed|2F003|the user mapping of role "alice" for foreign server "d1" has no password, which only superusers may do without';
my %waived = (run => sub { outcome('direct') }, ok => 'one d1 etl');
taken_away('d1, password_required = false', %waived, take => q{ALTER USER MAPPING FOR alice SERVER d1 OPTIONS (SET password_required 'true')},
    give => q{ALTER USER MAPPING FOR alice SERVER d1 OPTIONS (SET password_required 'false')}, gives => $no_password);
my $super = here('SELECT session_user');
taken_away('d1, password_required = false on a server of who is no superuser', %waived,
    take => 'ALTER SERVER d1 OWNER TO owner2', give => "ALTER SERVER d1 OWNER TO \"$super\"; GRANT USAGE ON FOREIGN SERVER d1 TO owner2", gives => $no_password);
taken_away('d1, password_required = false in PUBLIC\'s mapping', %waived,
    take => q{DROP USER MAPPING FOR alice SERVER d1; CREATE USER MAPPING FOR PUBLIC SERVER d1 OPTIONS (user 'etl', password_required 'false')},
    give => q{DROP USER MAPPING FOR PUBLIC SERVER d1; CREATE USER MAPPING FOR alice SERVER d1 OPTIONS (user 'etl', password_required 'false')}, gives => $no_password);
# a superuser needs none, as long as he is one
here(q{CREATE USER MAPPING FOR chief SERVER d1 OPTIONS (user 'etl')});
as('chief', q{SELECT fleet.create_job('chief'); SELECT fleet.add_step('chief', 's', $$SELECT etl.witness('chief')$$);
    SELECT fleet.create_package('chief'); SELECT fleet.add_task('chief', 't', job => 'chief', server => 'd1')});
is(outcome('chief', 'chief'), 'succeeded||', 'd1, a superuser without password: runs');
is(events(), 'chief d1 etl', 'd1, a superuser without password: once');
taken_away('d1, the owner\'s superuser status', run => sub { outcome('chief', 'chief') }, ok => 'chief d1 etl',
    take => 'ALTER ROLE chief NOSUPERUSER', give => 'ALTER ROLE chief SUPERUSER',
    gives => $no_password =~ s/alice/chief/r);
hba('scram-sha-256');
here("DROP USER MAPPING FOR alice SERVER d1; CREATE USER MAPPING FOR alice SERVER d1 OPTIONS (user 'etl', password '$pw')");

# ---- mode agent: roles there -------------------------------------------------------------------

my %there = (run => sub { outcome('agent as') }, ok => 'own a1 etl, as a1 batch1', seen => 'own a1 etl', on => 'a1');
is($there{run}->(), 'succeeded||', 'a1: run_as runs');
is(events(), $there{ok}, 'a1: as that role there');
taken_away('a1, membership in run_as there', %there, take => 'REVOKE batch1 FROM etl', give => 'GRANT batch1 TO etl',
    gives => 'failed|42501|the job\'s owner is no longer a member of role "batch1"');
taken_away('a1, VALID UNTIL of run_as there', %there, take => q{ALTER ROLE batch1 VALID UNTIL '2001-01-01'}, give => q{ALTER ROLE batch1 VALID UNTIL 'infinity'},
    gives => 'failed|28000|role "batch1" has expired (VALID UNTIL is over)');
# a job that is only there, and another's: the link's user may start it as long as he is a member
on('a1', q{SELECT fleet.create_job('theirs'); SELECT fleet.add_step('theirs', 'one', $$SELECT etl.witness('one')$$); SELECT fleet.alter_job('theirs', owner => 'batch2')});
as('alice', q{SELECT fleet.create_package('theirs'); SELECT fleet.add_task('theirs', 't', job => 'theirs', server => 'a1')});
is(outcome('theirs'), 'succeeded||', 'a1: a job of a role that the link\'s user is a member of');
is(events(), 'one a1 batch2', 'a1: runs as that role');
taken_away('a1, membership in the job\'s owner there', run => sub { outcome('theirs') }, ok => 'one a1 batch2', on => 'a1',
    take => 'REVOKE batch2 FROM etl', give => 'GRANT batch2 TO etl', gives => 'failed|42501|permission denied for job "theirs"');

# ---- while the run is under way ----------------------------------------------------------------

# The first task stays until it is released; what it is followed by loses its right meanwhile.
here("CREATE ROLE leaver LOGIN; GRANT leaver TO alice; GRANT USAGE ON FOREIGN SERVER d1 TO leaver; CREATE USER MAPPING FOR leaver SERVER d1 OPTIONS (user 'etl', password '$pw')");
for my $owner (qw(owner2 leaver))
{
    as($owner, "SELECT fleet.create_job('of $owner'); SELECT fleet.add_step('of $owner', 's', \$\$SELECT etl.witness('of $owner')\$\$)");
}
as('alice', q{SELECT fleet.create_package('of owner2'); SELECT fleet.add_task('of owner2', 't', job => 'of owner2', server => 'd1')});
is(outcome('of owner2'), 'succeeded||', 'd1, a job of a role that the run\'s owner is a member of: runs');
is(events(), 'of owner2 d1 etl_b2', 'd1: as the user of the job owner\'s mapping, not of the run owner\'s');
as('alice', <<'SQL');
SELECT fleet.create_package('gate', params => '{"key": null}');
SELECT fleet.add_task('gate', 'gate', sql => 'SELECT etl.work_until_released()');
SELECT fleet.add_task('gate', 'owner2', job => 'of owner2', server => 'd1', after => '{gate}');
SELECT fleet.add_task('gate', 'leaver', job => 'of leaver', server => 'd1', after => '{gate}');
SELECT fleet.add_task('gate', 'as', job => 'two', server => 'd1', after => '{gate}');
SELECT fleet.add_task('gate', 'agent', job => 'one', server => 'a1', after => '{gate}');
SQL
my $run = as('alice', q{SELECT fleet.run_parent_package('gate', params => '{"key": "gate"}')});
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'gate' AND what = 'start'}, '1', 'the run is under way');
here(<<'SQL');
REVOKE owner2 FROM alice;
DROP USER MAPPING FOR leaver SERVER d1; REVOKE USAGE ON FOREIGN SERVER d1 FROM leaver; DROP ROLE leaver;
REVOKE batch1 FROM alice;
REVOKE USAGE ON FOREIGN SERVER a1 FROM alice;
SQL
$f->release('gate');
$f->run_is($run, 'failed', 'what was taken away while the run was under way is gone for it');
is(here("SELECT task, state, sqlstate, message FROM fleet.task_run WHERE run_id = $run ORDER BY task_no"), join("\n",
        'gate|succeeded||',
        'owner2|failed|42501|the run\'s owner is not a member of the owner of job "of owner2"',
        'leaver|failed|42501|the run\'s owner is not a member of the owner of job "of leaver"',
        'as|failed|42501|the job\'s owner is no longer a member of role "batch1"',
        'agent|failed|42501|role "alice" has no USAGE on foreign server "a1"'),
    'each task ends with its own reason');
is(events(), 'start parent alice, end parent alice, own d1 etl', 'and none of them did anything');
here('GRANT owner2, batch1 TO alice; GRANT USAGE ON FOREIGN SERVER a1 TO alice');

# The right is taken away in the middle of a step: the link is closed, and the step is not begun again
as('alice', <<'SQL');
SELECT fleet.create_job('later', params => '{"key": null}');
SELECT fleet.add_step('later', 'gate', 'SELECT etl.work_until_released()');
SELECT fleet.add_step('later', 'next', $$SELECT etl.witness('next')$$);
SELECT fleet.create_package('later', params => '{"key": null}');
SELECT fleet.add_task('later', 't', job => 'later', server => 'd1');
SQL
$run = as('alice', q{SELECT fleet.run_parent_package('later', params => '{"key": "later"}')});
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'later' AND what = 'start'}, '1', 'its first step is under way');
here('REVOKE USAGE ON FOREIGN SERVER d1 FROM alice');
$f->run_is($run, 'failed', 'USAGE taken away while a step runs');
is(here("SELECT step, state, sqlstate, message FROM fleet.job_log WHERE run_id = $run ORDER BY step_no"),
    "gate|failed|42501|role \"alice\" has no USAGE on foreign server \"d1\"", 'the step that was under way fails, with the reason, and none follows');
my $pid = here("SELECT backend_pid FROM fleet.step_run WHERE run_id = $run AND step = 'gate'");
$f->wait_for('d1', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', 'its session is closed');
$f->release('later');
is(events(), 'start d1 etl', 'and it did not come to its end');
here('GRANT USAGE ON FOREIGN SERVER d1 TO alice');

# ---- owners that do not exist any more ---------------------------------------------------------

here('CREATE ROLE ghost LOGIN');
as('ghost', q{SELECT fleet.create_job('ghost'); SELECT fleet.add_step('ghost', 's', $$SELECT etl.witness('ghost')$$);
    SELECT fleet.create_package('ghost'); SELECT fleet.add_task('ghost', 't', sql => $$SELECT etl.witness('ghost')$$)});
here('DROP ROLE ghost');
is(outcome('ghost', "\"$super\""), 'failed|42704|the role that it belongs to no longer exists', 'a package whose owner is gone does not run, for nobody');
is(job_outcome('ghost', "\"$super\""), 'failed|42704|the role that it belongs to no longer exists', 'nor does a job');
is(events(), '', 'and nothing is done');
# whoever it is that asks: only a superuser or an operator gives it to a role, and then it is that role's
here('CREATE ROLE operator; GRANT fleet_operator TO operator; GRANT owner2 TO operator');
$f->fails("SET ROLE alice; $_", '42501', "alice does not take it: $_") for q{SELECT fleet.alter_package('ghost', owner => 'alice')}, q{SELECT fleet.alter_job('ghost', owner => 'alice')};
as('operator', q{SELECT fleet.alter_package('ghost', owner => 'owner2'), fleet.alter_job('ghost', owner => 'owner2')});
is(outcome('ghost', 'owner2'), 'succeeded||', 'an operator gives the package to a role: it runs');
is(job_outcome('ghost', 'owner2'), 'succeeded||', 'and the job');
is(events(), 'ghost parent owner2, ghost parent owner2', 'as that role');

# ---- options at definition, and again at use ---------------------------------------------------

# One statement each, by a user and by a superuser: "ok", or its SQLSTATE
my %expected;
my (@server, @mapping);
my $attempt = <<'SQL';
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN RETURN 'ok'; WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
SQL
for my $option (
    qw(host hostaddr port dbname application_name channel_binding connect_timeout fallback_application_name keepalives keepalives_count keepalives_idle
    keepalives_interval load_balance_hosts require_auth ssl_max_protocol_version ssl_min_protocol_version sslmode sslnegotiation sslrootcert sslsni
    target_session_attrs tcp_user_timeout))
{
    $expected{"server $option"} = 'ok ok';
}
$expected{"server $_"} = '42501 ok' for qw(gssencmode gsslib krbsrvname options requirepeer sslcrl sslcrldir);
$expected{"server $_"} = 'HV00D HV00D' for qw(service sslkeylogfile requiressl replication client_encoding user password passfile password_required sslcert sslkey sslpassword bogus);
$expected{"mapping $_"} = 'ok ok' for qw(user password channel_binding require_auth sslmode sslrootcert);
$expected{"mapping $_"} = '42501 ok' for qw(passfile password_required sslcert sslkey sslpassword);
$expected{"mapping $_"} = 'HV00D HV00D' for qw(host port dbname options service replication bogus);
my @names = sort keys %expected;
for my $role ('owner2', $super)
{
    here('GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO owner2');
    my $sql = "$attempt CREATE SERVER own_$role FOREIGN DATA WRAPPER pg_fleet;\n";
    for my $name (@names)
    {
        my ($place, $option) = split / /, $name;
        my $value = $option eq 'password_required' ? 'false' : $option =~ /^(?:connect_timeout|keepalives.*|sslsni|tcp_user_timeout)$/ ? '1' : 'x';
        my $command = $place eq 'server' ? "ALTER SERVER own_$role OPTIONS (ADD $option '$value')" : "CREATE USER MAPPING FOR CURRENT_USER SERVER own_$role OPTIONS ($option '$value')";
        $sql .= 'SELECT pg_temp.try(' . FleetTest::quote_literal($command) . ");\n";
    }
    my @got = split /\n/, $f->sql_as($role, $sql . "DROP SERVER own_$role;");
    $_ .= ' ' for @got;
    my $n = $role eq 'owner2' ? 0 : 1;
    is_deeply({ map { $names[$_] => $got[$_] } 0 .. $#names }, { map { $_ => (split / /, $expected{$_})[$n] . ' ' } @names },
        ($n ? 'a superuser' : 'a user') . ' may set these options, and no others');
}
my @numbers = split /\n/, $f->sql_as('owner2', "$attempt CREATE SERVER own FOREIGN DATA WRAPPER pg_fleet;"
      . join('', map { "SELECT pg_temp.try(\$q\$ALTER SERVER own OPTIONS (ADD connect_timeout '$_')\$q\$);" } '', '-1', '1x', ' 1', '1234567890', '123456789', '0') . 'DROP SERVER own');
is("@numbers", 'HV024 HV024 HV024 HV024 HV024 ok ok', 'options that are numbers are numbers');

# Servers of other wrappers, whose validators allow more
here(<<"SQL");
CREATE EXTENSION postgres_fdw;
CREATE SERVER via_postgres_fdw FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '@{[$d1->port]}', dbname 'dw', fetch_size '7', use_remote_estimate 'true');
CREATE SERVER via_dblink_fdw FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '127.0.0.1', port '@{[$d1->port]}', dbname 'dw');
SQL
my %refused = (
    postgres_fdw => { server => [qw(passfile options service sslcrl gssencmode requirepeer krbsrvname sslcrldir gsslib)], mapping => [qw(sslcert sslkey)] },
    dblink_fdw   => { server => [qw(passfile options service sslcert sslkey)], mapping => [qw(sslpassword)] });
for my $fdw (sort keys %refused)
{
    my $s = "via_$fdw";
    here("GRANT USAGE ON FOREIGN SERVER $s TO alice; CREATE USER MAPPING FOR alice SERVER $s OPTIONS (user 'etl', password '$pw')");
    as('alice', "SELECT fleet.register_server('$s', mode => 'direct'); SELECT fleet.create_package('$s'); SELECT fleet.add_task('$s', 't', job => 'one', server => '$s')");
    is(outcome($s), 'succeeded||', "$fdw: its own options are passed over, and it runs");
    is(events(), 'one d1 etl', "$fdw: once");
    for my $place (qw(server mapping))
    {
        my $object = $place eq 'server' ? "SERVER $s" : "USER MAPPING FOR alice SERVER $s";
        for my $option (@{ $refused{$fdw}{$place} })
        {
            here("ALTER $object OPTIONS (ADD $option '1')");
            is(outcome($s), "failed|42501|option \"$option\" of foreign server \"$s\" or its user mapping is not allowed", "$fdw: option $option, set after the definition: refused");
            here("ALTER $object OPTIONS (DROP $option)");
        }
    }
    is(events(), '', "$fdw: and nothing is done");
    is(outcome($s), 'succeeded||', "$fdw: without them it runs again");
    is(events(), 'one d1 etl', "$fdw: once");
}
# what leads to the operating system's user is a superuser's to say; service is nobody's
as('chief', "CREATE USER MAPPING FOR chief SERVER via_postgres_fdw OPTIONS (user 'etl', password '$pw');"
      . q{SELECT fleet.create_package('chief via'); SELECT fleet.add_task('chief via', 't', job => 'chief', server => 'via_postgres_fdw')});
here(q{ALTER SERVER via_postgres_fdw OPTIONS (ADD options '-c work_mem=1MB')});
is(outcome('chief via', 'chief'), 'succeeded||', 'option options is allowed to a superuser');
is(events(), 'chief d1 etl', 'once');
here(q{ALTER SERVER via_postgres_fdw OPTIONS (DROP options, ADD service 'x')});
is(outcome('chief via', 'chief'), 'failed|42501|option "service" of foreign server "via_postgres_fdw" or its user mapping is not allowed', 'option service is allowed to nobody');
here(q{ALTER SERVER via_postgres_fdw OPTIONS (DROP service)});
# a server that became another wrapper's, or is gone
here('ALTER FOREIGN DATA WRAPPER dblink_fdw RENAME TO other');
is(outcome('via_dblink_fdw'), 'failed|42809|foreign server "via_dblink_fdw" belongs to the wrapper "other", which pg_fleet does not use',
    'a foreign server of another wrapper: refused');
here('ALTER FOREIGN DATA WRAPPER other RENAME TO dblink_fdw; DROP SERVER via_dblink_fdw CASCADE');
is(outcome('via_dblink_fdw'), 'failed|42704|foreign server "via_dblink_fdw" no longer exists', 'a foreign server that was dropped: refused');
here('CREATE FOREIGN DATA WRAPPER other; CREATE SERVER via_dblink_fdw FOREIGN DATA WRAPPER other; GRANT USAGE ON FOREIGN SERVER via_dblink_fdw TO alice; CREATE USER MAPPING FOR alice SERVER via_dblink_fdw');
is(outcome('via_dblink_fdw'), 'failed|42704|foreign server "via_dblink_fdw" no longer exists', 'another foreign server under the same name is not it');
is(events(), '', 'and nothing is done');

# ---- names that need quotes, and numbers -------------------------------------------------------

# run_as, owners of jobs and of packages, in the three ways to run; and in a database that quotes all names
my $chief = here(q{SELECT oid FROM pg_roles WHERE rolname = 'chief'});
my $n = 0;
for my $odd ('Odd Role', 'quo"ted', q{it's}, 'user', $chief, 'plain')
{
    my $id = '"' . $odd =~ s/"/""/gr . '"';
    my $name = FleetTest::quote_literal($odd);
    my $job = 'odd' . ++$n;
    here('ALTER DATABASE dw SET quote_all_identifiers = on') if $odd eq 'plain';
    on('a1', "CREATE ROLE $id LOGIN; GRANT $id TO etl");
    here(<<"SQL");
CREATE ROLE $id LOGIN; GRANT $id TO alice; GRANT USAGE ON FOREIGN SERVER a1, d1 TO $id;
CREATE USER MAPPING FOR $id SERVER d1 OPTIONS (user 'etl_b1', password 'one');
SQL
    as('alice', <<"SQL");
SELECT fleet.create_job('$job'); SELECT fleet.add_step('$job', 's', \$\$SELECT etl.witness('odd')\$\$, run_as => $name);
SELECT fleet.create_package('$job d1'); SELECT fleet.add_task('$job d1', 't', job => '$job', server => 'd1');
SELECT * FROM fleet.deploy_job('$job', server => 'a1');
SELECT fleet.create_package('$job a1'); SELECT fleet.add_task('$job a1', 't', job => '$job', server => 'a1');
SQL
    as($id, <<"SQL");
SELECT fleet.create_job('$job owned'); SELECT fleet.add_step('$job owned', 's', \$\$SELECT etl.witness('owned')\$\$);
SELECT fleet.create_package('$job owned'); SELECT fleet.add_task('$job owned', 't', job => '$job owned', server => 'd1');
SQL
    $f->wait_for('parent', "SELECT state FROM fleet.deployment WHERE job = '$job'", 'deployed', "run_as $odd: the job is deployed");
    is(job_outcome($job), 'succeeded||', "run_as $odd, here");
    is(events(), "odd parent $odd", "run_as $odd, here: it was that role");
    is(outcome("$job d1"), 'succeeded||', "run_as $odd, mode direct");
    is(events(), 'odd d1 etl_b1', "run_as $odd, mode direct: it was the user of that role's mapping");
    is(outcome("$job a1"), 'succeeded||', "run_as $odd, mode agent");
    is(events(), "odd a1 $odd", "run_as $odd, mode agent: it was that role there");
    is(outcome("$job owned", $id), 'succeeded||', "owner $odd, mode direct");
    is(events(), 'owned d1 etl_b1', "owner $odd, mode direct: by its mapping");
}
here('ALTER DATABASE dw RESET quote_all_identifiers');

# a role that was dropped is nobody, though another one has its number for a name
here('CREATE ROLE gone LOGIN; GRANT gone TO alice');
my $gone = here(q{SELECT oid FROM pg_roles WHERE rolname = 'gone'});
as('alice', q{SELECT fleet.create_job('of gone'); SELECT fleet.add_step('of gone', 's', $$SELECT etl.witness('gone')$$, run_as => 'gone')});
here(qq{DROP ROLE gone; CREATE ROLE "$gone" LOGIN; GRANT "$gone" TO alice});
is(job_outcome('of gone'), 'failed|42704|the role that the step runs as no longer exists', 'a step whose role was dropped runs as nobody');
is(events(), '', 'and nothing is done');

%session = ();
$f->done;
