# Roles: a user without any privilege but his own schema defines and runs it all; others see none of
# it; nobody borrows the server's identity; a password is nowhere.
use strict;
use warnings;
use File::Find;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, register => 0);
my $parent = $f->parent;
my $canary = 'canary-7c2f1e-secret';
$parent->safe_psql('postgres', <<"SQL");
CREATE ROLE alice LOGIN PASSWORD 'alice';
CREATE ROLE bob LOGIN PASSWORD 'bob';
CREATE ROLE carol LOGIN PASSWORD 'carol' IN ROLE fleet_operator;
CREATE ROLE dave LOGIN PASSWORD 'dave' IN ROLE fleet_reader;
CREATE ROLE erin LOGIN PASSWORD 'erin' IN ROLE pg_monitor;
SQL
$f->sql('CREATE SCHEMA alice AUTHORIZATION alice; CREATE SCHEMA bob AUTHORIZATION bob');
for my $server (qw(a1 d1))
{
    $f->sql_on($server, "ALTER ROLE etl PASSWORD '$canary'");
    $f->sql_on($server, 'CREATE TABLE etl.who (name text, sess text); ALTER TABLE etl.who OWNER TO etl');
}

# ---- what a user without privileges can do -----------------------------------------------------

for my $server (qw(a1 d1))
{
    $f->sql_as('alice', sprintf q{SELECT fleet.add_server('%s', '%s', username => 'etl', password => '%s', mode => '%s', groups => '{mine}')},
        $server, $f->conninfo($server), $canary, $f->mode($server));
}
$f->sql_as('alice', <<'SQL');
CREATE TABLE alice.who (name text, sess text, super text);
SELECT fleet.create_job('alice job');
SELECT fleet.add_step('alice job', 'who', 'INSERT INTO etl.who SELECT current_user, session_user');
SELECT fleet.create_package('alice package');
SELECT fleet.add_task('alice package', 'here', sql => 'INSERT INTO alice.who SELECT current_user, session_user, current_setting(''is_superuser'')');
SELECT fleet.add_task('alice package', 'direct', job => 'alice job', server => 'd1', after => '{here}');
SELECT * FROM fleet.deploy_job('alice job', server => 'a1');
SQL
$f->wait_for('parent', q{SELECT string_agg(state, ',') FROM fleet.deployments WHERE job = 'alice job'}, 'deployed', 'deployed by a user without privileges');
$f->sql_as('alice', q{SELECT fleet.add_task('alice package', 'agent', job => 'alice job', server => 'a1', after => '{here}')});
my $run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice package')});
is($f->sql_as('alice', "SELECT fleet.wait_for_run($run, timeout => '60s')"), 'succeeded', 'and run by him') or diag($f->dump_run($run));
is($f->sql('SELECT * FROM alice.who'), 'alice|alice|off', 'a local step is him, in current_user and session_user');
is($f->sql_on($_, 'SELECT * FROM etl.who'), 'etl|etl', "on $_ it is the user of his mapping") for qw(a1 d1);

# whatever a step resets, it stays him
for my $trick ('RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT', 'SET ROLE NONE', 'DISCARD ALL')
{
    my $name = "trick $trick";
    $f->sql_as('alice', "TRUNCATE alice.who; SELECT fleet.create_job('$name'); SELECT fleet.add_step('$name', '1', '$trick'" . ($trick =~ /DISCARD/ ? ', transactional => false' : '') . ");"
          . "SELECT fleet.add_step('$name', '2', 'INSERT INTO alice.who SELECT current_user, session_user, current_setting(''is_superuser'')')");
    my $id = $f->sql_as('alice', "SELECT fleet.start_job('$name')");
    $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'succeeded', "$name: runs");
    is($f->sql('SELECT * FROM alice.who'), 'alice|alice|off', "$name: gives nothing");
}
my $super = (getpwuid($<))[0];
for my $trick ("SET ROLE \"$super\"", "SET SESSION AUTHORIZATION \"$super\"", 'CREATE ROLE mallory SUPERUSER', 'ALTER ROLE alice SUPERUSER',
    q{SELECT * FROM pg_authid}, q{SELECT * FROM fleet_catalog.run}, q{COPY alice.who TO PROGRAM 'true'}, q{SELECT pg_read_file('PG_VERSION')})
{
    my $name = "attack $trick";
    $f->sql_as('alice', 'SELECT fleet.create_job(' . FleetTest::quote_literal($name) . '); SELECT fleet.add_step(' . FleetTest::quote_literal($name) . ", '1', " . FleetTest::quote_literal($trick) . ')');
    my $id = $f->sql_as('alice', 'SELECT fleet.start_job(' . FleetTest::quote_literal($name) . ')');
    $f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'failed', "$name: refused");
}

# for_each and a deferred trigger are user SQL too
$f->sql_as('alice', <<'SQL');
TRUNCATE alice.who;
CREATE FUNCTION alice.spy() RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'spy: % % %', current_user, session_user, current_setting('is_superuser');
    RETURN '{"n": 1}';
END $$;
CREATE TABLE alice.trap (i int);
CREATE FUNCTION alice.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alice.who SELECT 'trap ' || current_user, session_user, current_setting('is_superuser'); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER trap AFTER INSERT ON alice.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.trap();
SELECT fleet.create_package('alice spies');
SELECT fleet.add_task('alice spies', 'each', sql => 'INSERT INTO alice.trap VALUES (1)', for_each => 'SELECT alice.spy()');
SQL
$run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice spies')});
is($f->sql_as('alice', "SELECT fleet.wait_for_run($run, timeout => '60s')"), 'succeeded', 'for_each of a user') or diag($f->dump_run($run));
is($f->sql('SELECT * FROM alice.who'), 'trap alice|alice|off', 'a deferred trigger fires as him');

# shadowed operators and functions: the agent's own SQL must not meet them
$f->sql_as('alice', <<'SQL');
CREATE FUNCTION alice.shadow(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN INSERT INTO alice.who VALUES ('shadow ' || current_user, session_user, current_setting('is_superuser')); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR alice.= (LEFTARG = text, RIGHTARG = text, FUNCTION = alice.shadow);
CREATE FUNCTION alice.now() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN INSERT INTO alice.who VALUES ('now ' || current_user, session_user, current_setting('is_superuser')); RETURN pg_catalog.now(); END $$;
SQL
$f->sql(q{TRUNCATE alice.who; ALTER DATABASE dw SET search_path = alice, pg_catalog});
$f->sql("ALTER ROLE \"$super\" SET search_path = alice, pg_catalog");
my $pid = $f->agent_pid;
$f->sql("SELECT pg_catalog.pg_terminate_backend($pid)") if $pid;
$run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice package')});
is($f->sql_as('alice', "SELECT fleet.wait_for_run($run, timeout => '60s')"), 'succeeded', 'with a hostile search_path of database and role');
is($f->sql(q{SELECT count(*) FROM alice.who WHERE super OPERATOR(pg_catalog.=) 'on'}), '0', 'nothing of the user ran with more than his rights');
$f->sql("ALTER DATABASE dw RESET search_path; ALTER ROLE \"$super\" RESET search_path");

# ---- what others see ---------------------------------------------------------------------------

for my $view (qw(run task_run job_run step_run job_log log progress))
{
    is($f->sql_as('bob', "SELECT count(*) FROM fleet.$view"), '0', "bob sees nothing in fleet.$view");
    cmp_ok($f->sql_as('alice', "SELECT count(*) FROM fleet.$view"), '>', 0, "alice sees her own in fleet.$view") unless $view eq 'progress';
    for my $reader (qw(carol dave erin))
    {
        is($f->sql_as($reader, "SELECT count(*) FROM fleet.$view"), $f->sql("SELECT count(*) FROM fleet.$view"), "$reader sees all of fleet.$view");
    }
}
for my $attempt (
    q{SELECT fleet.run_parent_package('alice package')}, "SELECT fleet.cancel_run($run)", q{SELECT fleet.start_job('alice job')},
    q{SELECT fleet.add_task('alice package', 'mine', sql => 'SELECT 1')}, q{SELECT fleet.drop_package('alice package')}, q{SELECT fleet.drop_job('alice job')},
    q{SELECT fleet.add_step('alice job', 'mine', 'SELECT 1')}, q{SELECT fleet.set_server_state('a1', 'offline')}, q{SELECT fleet.remove_server('a1')})
{
    my ($rc, $out, $err) = $f->try_as('bob', $attempt);
    ok($rc != 0 && $err =~ /ERROR:\s+(?:42501|42704)/, "bob: $attempt: refused") or diag("$rc $out $err");
}
for my $attempt ('TABLE fleet_catalog.run', q{UPDATE fleet.run SET state = 'failed'}, 'DELETE FROM fleet.task_run', 'TRUNCATE fleet_catalog.run',
    q{CREATE TABLE fleet.mine (i int)}, 'CREATE TRIGGER t AFTER INSERT ON fleet_catalog.run EXECUTE FUNCTION alice.trap()',
    q{SELECT fleet_catalog.caller()}, q{SELECT fleet.add_task('alice package', 'x', sql => 'SELECT 1', for_each => NULL) FROM fleet_catalog.job})
{
    my ($rc, $out, $err) = $f->try_as('alice', $attempt);
    ok($rc != 0, "alice: $attempt: refused") or diag($out);
}
# carol may cancel what is not hers
$f->sql_as('alice', q{SELECT fleet.create_package('alice sleeps'); SELECT fleet.add_task('alice sleeps', 't', sql => 'SELECT pg_sleep(600)')});
$run = $f->sql_as('alice', q{SELECT fleet.run_parent_package('alice sleeps')});
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running');
is($f->sql_as('carol', "SELECT fleet.cancel_run($run)"), 't', 'an operator cancels');
$f->run_is($run, 'canceled', 'and it is canceled');
my ($rc, $out, $err) = $f->try_as('dave', "SELECT fleet.cancel_run($run)");
ok($rc != 0 || $out eq 'f', 'a reader does not');

# run_as: a member may, others may not
$f->sql('CREATE ROLE batch LOGIN; GRANT batch TO alice');
$f->sql_as('alice', q{SELECT fleet.create_job('as batch'); SELECT fleet.add_step('as batch', '1', 'DO $x$BEGIN RAISE NOTICE ''i am % %'', current_user, session_user; END$x$', run_as => 'batch')});
my $id = $f->sql_as('alice', q{SELECT fleet.start_job('as batch')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'succeeded', 'run_as a role of which the owner is a member');
is($f->sql("SELECT message FROM fleet.log WHERE job_run_id = $id AND level = 'NOTICE'"), 'i am batch batch', 'the step is that role');
$f->fails(q{SELECT fleet.create_job('as super'); SELECT fleet.add_step('as super', '1', 'SELECT 1', run_as => '} . $super . q{')}, '42501', 'run_as somebody else: refused', as => 'alice');
$f->sql('REVOKE batch FROM alice');
$id = $f->sql_as('alice', q{SELECT fleet.start_job('as batch')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $id", 'failed', 'membership is checked when it runs, too');

# ---- nobody borrows the server's identity ------------------------------------------------------

my $port = $parent->port;
my $socket = $parent->host;
# what the operating-system user of the server has: a password file with the superuser's password
my $home = $ENV{HOME};
$parent->safe_psql('postgres', "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss-password'");
append_to_file("$home/.pgpass", "*:*:*:*:boss-password\n");
append_to_file("$home/.pg_service.conf", "[loop]\nhost=127.0.0.1\nport=$port\nuser=boss\npassword=boss-password\n");
chmod 0600, "$home/.pgpass";
$f->sql_as('bob', q{SELECT fleet.create_job('loop'); SELECT fleet.add_step('loop', '1', 'CREATE ROLE owned SUPERUSER')});
my $n = 0;
for my $attack (
    [ 'socket, trust, no password',   "host=$socket port=$port dbname=postgres", $super, undef ],
    [ 'socket, trust, with password', "host=$socket port=$port dbname=postgres", $super, 'anything' ],
    [ 'no host at all',               "port=$port dbname=postgres", $super, 'anything' ],
    [ 'password file',                "host=127.0.0.1 port=$port dbname=postgres", 'boss', undef ],
    [ 'empty password',               "host=127.0.0.1 port=$port dbname=postgres", 'boss', '' ],
    [ 'host name of this machine',    "host=localhost port=$port dbname=postgres", 'boss', undef ],
    [ 'two hosts',                    "host=127.0.0.1,$socket port=1,$port dbname=postgres", $super, 'anything' ],
    [ 'hostaddr',                     "host=elsewhere hostaddr=127.0.0.1 port=$port dbname=postgres", 'boss', undef ],
    [ 'option passfile',              "host=127.0.0.1 port=$port dbname=postgres passfile=$home/.pgpass", 'boss', undef ],
    [ 'option service',               'service=loop dbname=postgres', 'boss', undef ],
    [ 'option options',               "host=127.0.0.1 port=$port dbname=postgres options=-csession_authorization=boss", 'bob', 'bob' ],
    [ 'option sslkey',                "host=127.0.0.1 port=$port dbname=postgres sslkey=/etc/passwd", 'boss', 'x' ],
    [ 'option gssencmode',            "host=127.0.0.1 port=$port dbname=postgres gssencmode=require krbsrvname=x", 'boss', undef ],
    [ 'a URI in dbname',              "host=127.0.0.1 port=$port dbname='postgresql://boss:boss-password\@127.0.0.1:$port/postgres'", 'bob', undef ])
{
    my ($name, $conninfo, $user, $password) = @$attack;
    $n++;
    my ($add) = $f->try_as('bob', sprintf q{SELECT fleet.add_server('loop%d', %s, username => %s, password => %s, mode => 'direct')},
        $n, map { FleetTest::quote_literal($_) } $conninfo, $user, $password);
    if ($add != 0)
    {
        pass("attack by $name: refused at once");
        next;
    }
    $f->sql_as('bob', "SELECT fleet.create_package('loop$n'); SELECT fleet.add_task('loop$n', 't', job => 'loop', server => 'loop$n')");
    my $r = $f->sql_as('bob', "SELECT fleet.run_parent_package('loop$n')");
    $f->wait_for('parent', "SELECT (SELECT last_error FROM fleet.server_status WHERE server = 'loop$n') IS NOT NULL OR state IN ('failed', 'succeeded') FROM fleet.run WHERE run_id = $r", 't');
    is($f->sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'owned'}), '0', "attack by $name: refused when connecting");
    $f->sql_as('bob', "SELECT fleet.cancel_run($r)");
}
$f->fails(q{CREATE USER MAPPING FOR bob SERVER loopx OPTIONS (password_required 'false')}, '\w+', 'password_required=false is not for users', as => 'bob');
my ($first) = $f->sql(q{SELECT coalesce(min(srvname), '') FROM pg_foreign_server WHERE srvname LIKE 'loop%'});
$f->fails("ALTER USER MAPPING FOR bob SERVER $first OPTIONS (ADD password_required 'false')", '\w+', 'nor by ALTER', as => 'bob') if $first;
# foreign servers of other wrappers obey the same rule
$f->sql("CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw, dblink_fdw TO bob");
for my $fdw (qw(postgres_fdw dblink_fdw))
{
    $f->sql_as('bob', "CREATE SERVER via_$fdw FOREIGN DATA WRAPPER $fdw OPTIONS (host '$socket', port '$port', dbname 'postgres');"
          . "CREATE USER MAPPING FOR bob SERVER via_$fdw OPTIONS (user '$super', password 'anything');"
          . "SELECT fleet.register_server('via_$fdw', mode => 'direct'); SELECT fleet.create_package('via_$fdw'); SELECT fleet.add_task('via_$fdw', 't', job => 'loop', server => 'via_$fdw')");
    my $r = $f->sql_as('bob', "SELECT fleet.run_parent_package('via_$fdw')");
    $f->wait_for('parent', "SELECT (SELECT last_error FROM fleet.server_status WHERE server = 'via_$fdw') IS NOT NULL OR state IN ('failed', 'succeeded') FROM fleet.run WHERE run_id = $r", 't');
    is($f->sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'owned'}), '0', "attack by a server of $fdw: refused when connecting");
    $f->sql_as('bob', "SELECT fleet.cancel_run($r)");
}
unlink "$home/.pgpass", "$home/.pg_service.conf";

# ---- the password is nowhere -------------------------------------------------------------------

# failures of each kind, with the canary in the mapping
$f->sql_as('alice', sprintf q{SELECT fleet.add_server('bad%d', '%s', username => '%s', password => '%s', mode => '%s')}, @$_)
  for [ 1, $f->conninfo('d1'), 'nobody', $canary, 'direct' ], [ 2, 'host=127.0.0.1 port=1 dbname=dw', 'etl', $canary, 'agent' ],
  [ 3, $f->conninfo('d1') =~ s/dbname=dw/dbname=nowhere/r, 'etl', $canary, 'direct' ], [ 4, $f->conninfo('d1'), 'etl', $canary, 'agent' ];
for my $i (1 .. 4)
{
    $f->sql_as('alice', "SELECT fleet.create_package('bad$i'); SELECT fleet.add_task('bad$i', 't', job => 'alice job', server => 'bad$i')");
    my $r = $f->sql_as('alice', "SELECT fleet.run_parent_package('bad$i')");
    $f->wait_for('parent', "SELECT (SELECT last_error FROM fleet.server_status WHERE server = 'bad$i') IS NOT NULL OR state = 'failed' FROM fleet.run WHERE run_id = $r", 't', "bad$i: a reason");
    $f->sql_as('alice', "SELECT fleet.cancel_run($r)");
}
# wrong arguments beside a password: the error does not repeat it
for my $call (
    "SELECT fleet.add_server('a1', 'host=x', username => 'u', password => '$canary')",
    "SELECT fleet.add_server('new', 'host=x bogus=1', username => 'u', password => '$canary')",
    "SELECT fleet.add_server('new', 'host=x', username => NULL, password => '$canary', mode => 'nonsense')",
    "SELECT fleet.add_server('new', 'host=x password=$canary', username => 'u')")
{
    my ($r, $o, $e) = $f->try_as('alice', $call);
    # psql shows the statement itself after LINE; what the server says is everything else
    $e =~ s/^LINE \d+:.*\n.*//mg;
    ok($r != 0 && $e !~ /\Q$canary\E/, 'an error does not repeat the password') or diag($e);
}
my @tables = split /\n/, $f->sql(q{SELECT c.oid::regclass FROM pg_class c WHERE relnamespace IN ('fleet'::regnamespace, 'fleet_catalog'::regnamespace) AND relkind IN ('r', 'v')});
for my $table (@tables)
{
    is($f->sql("SELECT count(*) FROM $table AS t WHERE t::text LIKE '%$canary%'"), '0', "not in $table");
}
is($f->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%cana' || 'ry-7c2f%' AND pid <> pg_backend_pid()"), '0', 'not in pg_stat_activity of the parent');
is($f->sql_on($_, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%cana' || 'ry-7c2f%' AND pid <> pg_backend_pid()"), '0', "not in pg_stat_activity of $_") for qw(a1 d1);
for my $role (qw(bob carol dave))
{
    is($f->sql_as($role, "SELECT count(*) FROM pg_user_mappings AS m WHERE m::text LIKE '%$canary%'"), '0', "$role cannot read it in the mappings");
}
for my $p ($f->processes('parent'), $f->processes('a1'))
{
    my $line = eval { slurp_file("/proc/$p/cmdline") } || '';
    unlike($line, qr/\Q$canary\E/, "not in the command line of process $p");
}
for my $node (qw(parent a1 d1))
{
    # statements that an error of a user's own statement made the server log are his, not ours
    my @lines = grep { /\Q$canary\E/ && !/STATEMENT:/ } split /\n/, slurp_file($f->node($node)->logfile);
    is("@lines", '', "not in the server log of $node");
}

$f->wait_for('parent', 'SELECT count(*) FROM fleet.run WHERE state NOT IN (\'succeeded\', \'failed\', \'canceled\')', '0', 'all runs are final');
$f->sql_on($_, "ALTER ROLE etl PASSWORD '$FleetTest::PASSWORD'") for qw(a1 d1);
$f->done;
