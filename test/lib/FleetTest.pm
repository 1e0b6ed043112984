# FleetTest.pm
#     A fleet of real clusters for the TAP suites: a parent, children in mode agent and direct,
#     a witness, and optionally a proxy before each child.  On top of PostgreSQL::Test::Cluster.
#
#     The witness is a cluster of its own.  Bodies of steps tell it what really happened, through
#     dblink, that is: in another transaction, which stays when the step's is rolled back.
#     pg_fleet's own tables are never the only proof of an effect.
package FleetTest;

use strict;
use warnings;
use Carp;
use Exporter 'import';
use IO::Socket::INET;
use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

our @EXPORT_OK = qw(quote_literal);

our $DB = 'dw';
our $PASSWORD = 'etl-secret';

# Waiting has an end only so that a defect does not hang the suite; no test asserts a time with it.
our $PATIENCE = $ENV{FLEET_TEST_TIMEOUT} || 90;

# FLEET_BAIL=1: a file ends at its first failure (for make mutants, where one is enough).
if ($ENV{FLEET_BAIL})
{
    require Test2::API;
    Test2::API::test2_stack()->top->listen(
        sub {
            my ($hub, $event) = @_;
            return unless $event->causes_fail && !$hub->nested;
            print STDERR "bail: first failure\n";
            exit 99;
        },
        inherit => 1);
}

# new(agents => n, direct => n, proxy => 0|1, preload => 0|1, witness => 0|1, parent => {…},
#     slots => n, register => 0|1, delays => 0|1)
#     delays => 0: where agents end one after the other, the next one comes at once (test/t/022_return.pl
#     is about the delays).
#     Children are called a1…, d1…; so are their servers, all in group "all", besides in "agents"
#     or "direct".
sub new
{
    my ($class, %opt) = @_;
    my $self = bless {
        nodes    => {},
        children => [],
        mode     => {},
        opt      => { witness => 1, register => 1, slots => 4, agents => 0, direct => 0, %opt },
    }, $class;

    $self->{nodes}{witness} = $self->_witness if $self->{opt}{witness};
    $self->{nodes}{parent} = $self->make_node(
        'parent',
        preload   => $self->{opt}{preload},
        streaming => $self->{opt}{streaming},
        conf      => $self->{opt}{conf});
    $self->prepare_database('parent');
    $self->add_child("a$_", 'agent') for 1 .. $self->{opt}{agents};
    $self->add_child("d$_", 'direct') for 1 .. $self->{opt}{direct};
    $self->start_proxy if $self->{opt}{proxy};
    if ($self->{opt}{register})
    {
        $self->register($_) for @{ $self->{children} };
    }
    return $self;
}

# ---- clusters ----------------------------------------------------------------------------------

# A started cluster that listens on 127.0.0.1 too, where it asks for a password.
sub make_node
{
    my ($self, $name, %opt) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(allows_streaming => $opt{streaming} ? 1 : 0);
    $node->append_conf('postgresql.conf', <<"CONF");
listen_addresses = '127.0.0.1'
max_connections = 100
max_worker_processes = 24
max_prepared_transactions = 5
log_min_messages = info
log_statement = none
log_checkpoints = off
autovacuum_naptime = 1h
timezone = 'UTC'
password_encryption = 'scram-sha-256'
deadlock_timeout = '200ms'
CONF
    $node->append_conf('postgresql.conf', staged_conf());
    # dblink: for libpq and the many libraries that libpq needs, which each session would load by itself
    # when it comes to pg_fleet.
    $node->append_conf('postgresql.conf', "shared_preload_libraries = '" . ($opt{libraries} || ($opt{preload} ? 'pg_fleet' : 'dblink')) . "'");
    $node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
    unlink $node->data_dir . '/pg_hba.conf';
    $node->append_conf('pg_hba.conf', <<'HBA');
local   all         all                trust
local   replication all                trust
host    all         all 127.0.0.1/32   scram-sha-256
HBA
    $node->start;
    return $node;
}

# make installcheck DESTDIR=...: the extension is not in the server's own folders, but in a package that is being built.
# Servers that can be told so are Debian's (extension_destdir), and all from version 18 (extension_control_path).
sub staged_conf
{
    my $root = $ENV{DESTDIR} or return '';
    my %folder = map { $_ => `pg_config --$_` } qw(pkglibdir sharedir version);
    chomp %folder;
    my $search = $folder{version} =~ /Debian/ ? "extension_destdir = '$root'" : "extension_control_path = '$root$folder{sharedir}:\$system'";
    return "dynamic_library_path = '$root$folder{pkglibdir}:\$libdir'\n$search\n";
}

# The database, its roles, and what bodies of steps use.
sub prepare_database
{
    my ($self, $name, %opt) = @_;
    my $node = $self->node($name);
    my $kept = sub {
        my ($rc, $out, $err) = $self->kept($name, $DB)->run(@_);
        croak "$name: $err" if $rc != 0;
    };
    my $extension = exists $opt{extension} ? $opt{extension} : 1;
    $node->safe_psql('postgres', <<"SQL");
CREATE DATABASE $DB;
CREATE ROLE etl LOGIN PASSWORD '$PASSWORD';
SQL
    $kept->('CREATE EXTENSION pg_fleet') if $extension;
    $kept->(<<'SQL');
CREATE SCHEMA etl AUTHORIZATION etl;
SET ROLE etl;
CREATE TABLE etl.effect (key text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION etl.key() RETURNS text LANGUAGE sql
    AS $$SELECT coalesce(current_setting('fleet.params', true)::jsonb ->> 'key', '-')$$;
SQL
    $self->without_delays($name) if $extension && !($self->{opt}{delays} // 1);
    return unless $self->{nodes}{witness};
    my $port = $self->{nodes}{witness}->port;
    $kept->(<<"SQL");
CREATE EXTENSION dblink SCHEMA public;
CREATE FUNCTION etl.witness(what text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM public.dblink_exec('host=127.0.0.1 port=$port dbname=witness user=witness password=witness',
        format('INSERT INTO event (key, what, server, usr) VALUES (%L, %L, %L, %L)',
               etl.key(), what, '$name', current_user));
END \$\$;
-- the usual body: witness the start, have an effect, witness the end
CREATE FUNCTION etl.work() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    INSERT INTO etl.effect (key) VALUES (etl.key());
    PERFORM etl.witness('end');
    RETURN etl.key();
END \$\$;
-- the same, staying between start and end until the witness holds a row ('release', key)
CREATE FUNCTION etl.work_until_released() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    released boolean := false;
BEGIN
    PERFORM etl.witness('start');
    INSERT INTO etl.effect (key) VALUES (etl.key());
    WHILE NOT released LOOP
        SELECT n > 0 INTO released FROM public.dblink('host=127.0.0.1 port=$port dbname=witness user=witness password=witness',
            format('SELECT count(*) FROM event WHERE what = ''release'' AND key IN (%L, ''*'')', etl.key())) AS t(n bigint);
        PERFORM pg_sleep(0.05);
    END LOOP;
    PERFORM etl.witness('end');
    RETURN etl.key();
END \$\$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA etl TO PUBLIC;
SQL
    return;
}

sub _witness
{
    my ($self) = @_;
    my $node = $self->make_node('witness');
    $node->safe_psql('postgres', 'CREATE DATABASE witness');
    $node->safe_psql('witness', <<'SQL');
CREATE ROLE witness LOGIN PASSWORD 'witness';
CREATE TABLE event (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key text NOT NULL, what text NOT NULL, server text, usr text);
GRANT ALL ON ALL TABLES IN SCHEMA public TO witness;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO witness;
SQL
    return $node;
}

sub add_child
{
    my ($self, $name, $mode) = @_;
    $self->{nodes}{$name} = $self->make_node($name, preload => $self->{opt}{preload});
    $self->prepare_database($name, extension => $mode eq 'agent');
    $self->{mode}{$name} = $mode;
    push @{ $self->{children} }, $name;
    return;
}

sub node { my ($self, $name) = @_; return $self->{nodes}{$name} || croak "no cluster $name"; }
sub parent { return $_[0]->node('parent'); }
sub children { return @{ $_[0]{children} }; }
sub mode { return $_[0]{mode}{ $_[1] }; }

# Where the parent reaches this child: itself, or the proxy before it.
sub port_of
{
    my ($self, $name) = @_;
    return $self->{proxy} ? $self->{proxy}->port($name) : $self->node($name)->port;
}

sub conninfo
{
    my ($self, $name) = @_;
    return 'host=127.0.0.1 port=' . $self->port_of($name) . " dbname=$DB sslmode=disable";
}

sub register
{
    my ($self, $name, %opt) = @_;
    my $groups = '{all,' . ($self->mode($name) eq 'agent' ? 'agents' : 'direct') . '}';
    $self->sql(sprintf q{SELECT fleet.add_server(%s, %s, username => 'etl', password => %s, mode => %s, slots => %d, groups => %s)},
        map({ quote_literal($_) } $name, $self->conninfo($name), $PASSWORD, $self->mode($name)),
        $opt{slots} || $self->{opt}{slots}, quote_literal($groups));
    return;
}

# ---- SQL ---------------------------------------------------------------------------------------

sub quote_literal
{
    my ($text) = @_;
    return 'NULL' unless defined $text;
    $text =~ s/'/''/g;
    return $text =~ /\\/ ? "E'" . ($text =~ s/\\/\\\\/gr) . "'" : "'$text'";
}

# On the parent, as superuser; dies if it fails.
sub sql
{
    my ($self, $query) = @_;
    return $self->sql_on('parent', $query);
}

# The same on any of the clusters.  A session that is kept does it, as if it were new: a process and
# a login each time would be most of the suite's time.  What is for psql itself, or leaves a
# transaction open, has a psql of its own.
sub sql_on
{
    my ($self, $name, $query) = @_;
    my $db = $name eq 'witness' ? 'witness' : $DB;
    my $node = $self->node($name);
    return $node->safe_psql($db, $query) if $query =~ /\\|\bBEGIN\s*(?:;|\z|TRANSACTION|WORK|ISOLATION)|\b(?:START TRANSACTION|COPY)\b/i;
    my ($rc, $out, $err) = $self->kept($name)->run($query);
    return $out if $rc == 0;
    print STDERR "\n#### Begin standard error\n", $err, "\n#### End standard error\n";
    die "error running SQL: '$err'\nwhile running '$query'";
}

# The session of a cluster that is kept; it is made when it is first asked, and again when it has gone.
sub kept
{
    my ($self, $name, $db) = @_;
    my $node = $self->node($name);    # a name may come to mean another cluster, as after a failover
    $db ||= $name eq 'witness' ? 'witness' : $DB;
    return $self->{kept}{ $node->name . ' ' . $db } ||= FleetTest::Kept->new($node, $db);
}

# No session of the test itself is on this cluster, until the next statement.
sub forget
{
    my ($self, $name) = @_;
    my $prefix = $self->node($name)->name . ' ';
    for my $key (grep { index($_, $prefix) == 0 } keys %{ $self->{kept} })
    {
        (delete $self->{kept}{$key})->close;
    }
    return;
}

# As somebody else: logs in as that role.  (rc, stdout, stderr); errors are verbose.
sub try_as
{
    my ($self, $role, $query, %opt) = @_;
    my ($out, $err);
    my $node = $self->node($opt{on} || 'parent');
    my @extra = ('-v', 'VERBOSITY=verbose');
    push @extra, '-U', $role if defined $role;
    my $rc = $node->psql($opt{db} || $DB, $query,
        stdout => \$out, stderr => \$err, on_error_stop => 1, extra_params => \@extra,
        timeout => $PATIENCE * 2);
    return ($rc, $out, $err);
}

sub sql_as
{
    my ($self, $role, $query, %opt) = @_;
    my ($rc, $out, $err) = $self->try_as($role, $query, %opt);
    croak "as $role: $query: $err" if $rc != 0;
    return $out;
}

# It fails, with this SQLSTATE, and says what to do instead.
sub fails
{
    my ($self, $query, $sqlstate, $name, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($rc, $out, $err) = $self->try_as($opt{as}, $query, %opt);
    my $ok = $rc != 0 && $err =~ /ERROR:\s+$sqlstate:/;
    $ok &&= $err =~ /$opt{like}/ if $opt{like};
    $ok &&= $err =~ /^(?:HINT|DETAIL):/m if $opt{help};
    ok($ok, $name) or diag("rc $rc, output: $out, error: $err");
    return $err;
}

# Waits until the query gives the value (default t) on a cluster.
sub wait_for
{
    my ($self, $node, @rest) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->wait_for_in($node, undef, @rest);
}

# The same in another of its databases.
sub wait_for_in
{
    my ($self, $node, $db, $query, $expected, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $expected = 't' unless defined $expected;
    my $out = '';
    my $end = time + $PATIENCE;
    my $pause = 0.03;    # longer each time: what is asked costs more than what is waited for
    while (time < $end)
    {
        my ($rc, $answer, $err) = $self->kept($node, $db)->run($query);
        $out = $answer . $err;
        last if $out eq $expected;
        select undef, undef, undef, $pause;
        $pause = $pause * 1.2 if $pause < 0.3;
    }
    my $ok = $out eq $expected;
    ok($ok, $name) if defined $name;
    diag("waited for \"$expected\" on $node, got \"$out\"\n  $query") unless $ok;
    return $ok;
}

# ---- definitions and runs ----------------------------------------------------------------------

# job('name', 'SELECT 1', { sql => …, retries => 2 }, …): defined at the parent, and deployed
# to the agents.  A step's name is "s" and its place, unless given.
sub job
{
    my ($self, $name, @steps) = @_;
    my $sql = 'SELECT fleet.create_job(' . quote_literal($name) . ");\n";
    my $n = 0;
    for my $step (@steps)
    {
        $n++;
        my %s = ref $step ? %$step : (sql => $step);
        my $step_name = delete $s{name} || "s$n";
        $sql .= 'SELECT fleet.add_step(' . join(', ', quote_literal($name), quote_literal($step_name),
            map { "$_ => " . ($s{$_} =~ /^(?:true|false|\d+)$/ ? $s{$_} : quote_literal($s{$_})) } sort keys %s) . ");\n";
    }
    $self->sql($sql);
    $self->deploy($name);
    return;
}

sub deploy
{
    my ($self, $name) = @_;
    my @agents = grep { $self->mode($_) eq 'agent' } $self->children;
    return unless @agents && $self->{opt}{register};
    $self->sql("SELECT * FROM fleet.deploy_job(" . quote_literal($name) . ", on_group => 'agents')");
    my $agents = @agents;
    $self->wait_for('parent',
        "SELECT count(*) = $agents FROM fleet.deployment WHERE job = " . quote_literal($name) . " AND state = 'deployed'")
      or croak "job $name was not deployed";
    return;
}

# package('name', task => { sql => … }, other => { job => …, server => … }): tasks in order
sub package
{
    my ($self, $name, @tasks) = @_;
    my $params = '{}';
    $params = (shift @tasks, shift @tasks)[1] if @tasks && $tasks[0] eq '-params';
    my $sql = 'SELECT fleet.create_package(' . quote_literal($name) . ', params => ' . quote_literal($params) . ");\n";
    while (my ($task, $args) = splice @tasks, 0, 2)
    {
        $sql .= 'SELECT fleet.add_task(' . join(', ', quote_literal($name), quote_literal($task),
            map { "$_ => " . ($args->{$_} =~ /^\d+$/ ? $args->{$_} : quote_literal($args->{$_})) } sort keys %$args) . ");\n";
    }
    # One transaction, one version: with one for each task the definition of a large package is written as often as it has tasks.
    my ($rc, $out, $err) = $self->kept('parent')->run("BEGIN;\n${sql}COMMIT");
    croak "package $name: $err" if $rc != 0;
    return;
}

# Two packages: "plain" notes its parameter "key" in etl.done; "stay" does so when there is a row with it
# in etl.go, so that a run is open over the ends of agents.  Again after DROP EXTENSION.
sub define_stay
{
    my ($self) = @_;
    $self->sql(<<'SQL');
CREATE TABLE IF NOT EXISTS etl.go (key text);
CREATE TABLE IF NOT EXISTS etl.done (key text);
CREATE OR REPLACE FUNCTION etl.stay(k text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM etl.go WHERE key = k) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    INSERT INTO etl.done VALUES (k);
END $$;
SQL
    $self->package('stay', -params => '{"key": null}', t => { sql => q{SELECT etl.stay(fleet.param('key'))} });
    $self->package('plain', -params => '{"key": null}', t => { sql => q{INSERT INTO etl.done VALUES (fleet.param('key'))} });
    return;
}

sub start
{
    my ($self, $package, $params) = @_;
    return $self->sql('SELECT fleet.run_parent_package(' . quote_literal($package)
          . (defined $params ? ', params => ' . quote_literal($params) : '') . ')');
}

# The run's final state; '' if it is not final after all patience.
sub wait_run
{
    my ($self, $run) = @_;
    my $state = $self->sql("SELECT fleet.wait_for_run($run, timeout => '${PATIENCE}s')");
    diag($self->dump_run($run)) if $state eq '';
    return $state;
}

sub run_is
{
    my ($self, $run, $state, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $got = $self->wait_run($run);
    is($got, $state, $name) or diag($self->dump_run($run));
    return $got eq $state;
}

sub dump_run
{
    my ($self, $run) = @_;
    my $text = '';
    for my $query (
        "SELECT * FROM fleet.run WHERE run_id = $run",
        "SELECT task, item, attempt, server, job, state, sqlstate, message FROM fleet.task_run WHERE run_id = $run ORDER BY 1, 2",
        "SELECT task, item, server, step, attempt, state, sqlstate, message FROM fleet.job_log WHERE run_id = $run ORDER BY started_at",
        "SELECT task, item, seq, level, sqlstate, message FROM fleet.log WHERE run_id = $run ORDER BY task, item, seq LIMIT 60",
        'SELECT server, mode, state, busy, last_error FROM fleet.server_status')
    {
        my ($out, $err) = ('', '');
        $self->parent->psql($DB, $query, stdout => \$out, stderr => \$err);
        $text .= "-- $query\n$out$err\n";
    }
    return $text;
}

# ---- the witness -------------------------------------------------------------------------------

sub release { my ($self, $key) = @_; $self->sql_on('witness', 'INSERT INTO event (key, what) VALUES (' . quote_literal($key || '*') . ", 'release')"); return; }

sub witnessed
{
    my ($self, $key, $what) = @_;
    return $self->sql_on('witness', 'SELECT count(*) FROM event WHERE key = ' . quote_literal($key) . ' AND what = ' . quote_literal($what));
}

sub wait_started
{
    my ($self, $key, $n) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $n ||= 1;
    return $self->wait_for('witness', "SELECT count(*) >= $n FROM event WHERE what = 'start' AND key = " . quote_literal($key), 't',
        "$key has started" . ($n > 1 ? " $n times" : ''));
}

sub effects
{
    my ($self, $server, $key) = @_;
    return $self->sql_on($server, 'SELECT count(*) FROM etl.effect WHERE key = ' . quote_literal($key));
}

# ---- processes ---------------------------------------------------------------------------------

# Pids of our background workers of a database.  kind: agent, runner, …
sub workers
{
    my ($self, $node, $kind, $db) = @_;
    return split /\n/, $self->sql_on($node,
        'SELECT pid FROM pg_stat_activity WHERE backend_type LIKE ' . quote_literal("pg_fleet $kind%")
          . ' AND datname = ' . quote_literal($db || $DB) . ' ORDER BY 1');
}

sub agent_pid { my ($self, $node) = @_; return ($self->workers($node || 'parent', 'agent'))[0]; }

# All processes of a cluster: the postmaster and its children.
sub processes
{
    my ($self, $node) = @_;
    my ($postmaster) = slurp_file($self->node($node)->data_dir . '/postmaster.pid') =~ /^(\d+)/;
    return ($postmaster, split ' ', slurp_file("/proc/$postmaster/task/$postmaster/children"));
}

sub proc_status
{
    my ($pid, $field) = @_;
    my ($value) = slurp_file("/proc/$pid/status") =~ /^$field:\s+(\d+)/m;
    return $value;
}

# ---- points ------------------------------------------------------------------------------------

# A test build stops or ends at named points of its code: src/points.h says what the words mean
# (wait, error, exit, kill, signal; "kill 3": only at the third time).
sub point
{
    my ($self, $node, $name, $word) = @_;
    my $dir = $self->node($node)->data_dir . '/fleet_points';
    mkdir $dir;
    open my $file, '>', "$dir/$name.new" or croak "$dir/$name: $!";
    print {$file} "$word\n";
    close $file;
    rename "$dir/$name.new", "$dir/$name" or croak "$dir/$name: $!";
    $self->{points}{"$dir/$name"} = "$node: $name";
    return;
}

sub _wait_for_file
{
    my ($self, $condition, $what, $test) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 2;
    my $end = time + $PATIENCE;
    select undef, undef, undef, 0.01 until $condition->() || time > $end;
    my $ok = $condition->();
    ok($ok, $test) if defined $test;
    diag("waited for point $what") unless $ok;
    return $ok;
}

# Agents that end soon after their start come back at once.
sub without_delays
{
    my ($self, $node) = @_;
    $self->point($node, 'starter_before_delay', 'signals 100000');
    $self->{points} = { map { $_ => $self->{points}{$_} } grep { !/starter_before_delay/ } keys %{ $self->{points} } };
    return;
}

# What schedules of a cluster go by: this time (UTC, '2027-01-10 12:00:00') is now, and goes on from there.
sub set_clock
{
    my ($self, $node, $time) = @_;
    my ($y, $m, $d, $h, $min, $s) = $time =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)$/ or croak "no time: $time";
    my $dir = $self->node($node)->data_dir . '/fleet_points';
    mkdir $dir;
    open my $file, '>', "$dir/calendar.new" or croak "$dir/calendar: $!";
    print {$file} timegm($s, $min, $h, $d, $m - 1, $y) - int(time), "\n";
    close $file;
    rename "$dir/calendar.new", "$dir/calendar" or croak "$dir/calendar: $!";
    $self->sql_on($node, 'SELECT fleet_link.keep_agent()') if -e $self->node($node)->data_dir . '/postmaster.pid';
    return;
}

# Some process waits at this point.
sub point_waits
{
    my ($self, $node, $name, $test) = @_;
    my $path = $self->node($node)->data_dir . "/fleet_points/$name";
    return $self->_wait_for_file(sub { -e "$path.waiting" }, "$name on $node, that a process waits there", $test);
}

# The point did what it was told to do (and the file is gone).
sub point_fired
{
    my ($self, $node, $name, $test) = @_;
    my $path = $self->node($node)->data_dir . "/fleet_points/$name";
    return $self->_wait_for_file(sub { !-e $path }, "$name on $node, that it fires", $test);
}

# Who waits there goes on; a point that nobody came by is taken away.
sub point_release
{
    my ($self, $node, $name) = @_;
    my $path = $self->node($node)->data_dir . "/fleet_points/$name";
    delete $self->{points}{$path};
    my $n = unlink "$path.waiting", $path;
    return $n;
}

# Bytes that the agent of a node uses, to the byte and not by pages: (in memory contexts, of malloc
# besides them).  For that it is woken once; it should be at rest.
sub agent_memory
{
    my ($self, $node) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $file = $self->node($node)->data_dir . '/fleet_points/agent_before_messages.memory';
    unlink $file;
    $self->point($node, 'agent_before_messages', 'memory');
    $self->sql_on($node, q{SELECT fleet_catalog.wake('servers', 0)});
    $self->point_fired($node, 'agent_before_messages', "$node: the agent tells its memory");
    return split ' ', slurp_file($file);
}

# ---- what every suite ends with ----------------------------------------------------------------

our $LOGS_WITH_A_GAP = q{SELECT count(*) FROM (SELECT 1 FROM fleet.log GROUP BY run_id, job_run_id, task, item
    HAVING count(*) <> max(seq) OR min(seq) <> 1 OR count(DISTINCT seq) <> count(*)) AS x};

# Nothing may be left: no session, worker, lock or prepared transaction on any server, at rest and
# after DROP EXTENSION.  Call it last.
sub leak_check
{
    my ($self, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @fleet = ('parent', $self->children);
    subtest 'leak check' => sub {
        for my $path (sort keys %{ $self->{points} || {} })
        {
            ok(!-e $path && !-e "$path.waiting", "the point fired: $self->{points}{$path}");
        }
        for my $name (@fleet)
        {
            $self->wait_for($name, q{SELECT count(*) FROM pg_prepared_xacts}, '0', "$name: no prepared transaction");
            $self->wait_for($name, q{SELECT count(*) FROM pg_stat_activity
                WHERE (application_name LIKE 'pg_fleet%' OR backend_type LIKE 'pg_fleet%')
                  AND (xact_start IS NOT NULL OR state LIKE 'idle in%') AND backend_type NOT LIKE '%runner%'}, '0',
                "$name: no transaction of ours is open");
            $self->wait_for($name, q{SELECT count(*) FROM pg_locks WHERE NOT granted}, '0', "$name: nobody waits for a lock");
        }
        $self->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.run WHERE state < 11}, '0', 'no run is open');
        $self->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.task_run WHERE state < 11}, '0', 'no task run is open');
        $self->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.job_run WHERE state < 11}, '0', 'no job run is open');
        for my $name (@fleet)
        {
            next if $name ne 'parent' && $self->mode($name) ne 'agent';
            # (made: by hand, so that there is much of it, or by a server that lies)
            $opt{made} || $self->wait_for($name, $LOGS_WITH_A_GAP, '0', "$name: the lines of every log are numbered from 1 without a gap, each once")
              or diag($self->sql_on($name, $LOGS_WITH_A_GAP =~ s/count\(\*\) FROM \(SELECT 1/string_agg(x::text, E'\n') FROM (SELECT run_id, job_run_id, task, item, string_agg(concat_ws(' ', seq, left(message, 60)), ', ' ORDER BY seq)/r));
            my $agents = () = $self->workers($name, 'agent');
            ok($agents <= 1, "$name: at most one agent");
            my ($rc, $out, $err) = $self->try_as(undef, 'DROP EXTENSION pg_fleet CASCADE', on => $name);
            is($rc, 0, "$name: DROP EXTENSION") or diag($err);
            $self->wait_for($name, q{SELECT count(*) FROM pg_stat_activity
                WHERE backend_type LIKE 'pg_fleet%' AND backend_type NOT LIKE '%launcher%'}, '0', "$name: no worker is left");
            $self->wait_for($name, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}, '0', "$name: no lock is left");
        }
        for my $name ($self->children)
        {
            $self->wait_for($name, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%'},
                '0', "$name: no session is left");
        }
        for my $name (@fleet)
        {
            my $log = slurp_file($self->node($name)->logfile);
            my @bad = grep { !/terminated by signal (?:9|6)/ || !$opt{crashes} }
              $log =~ /^.*(?:PANIC|TRAP:|terminated by signal|reference leak|leaked|was not properly|AddressSanitizer|runtime error).*$/mg;
            # what an immediate stop says is meant to be there
            @bad = grep { !/was not properly shut down/ || !$opt{crashes} } @bad;
            is("@bad", '', "$name: the server's log has no crash and no leak");
        }
    };
    return;
}

sub done
{
    my ($self, %opt) = @_;
    $self->leak_check(%opt);
    $self->{proxy}->stop if $self->{proxy};
    done_testing();
    return;
}

# ---- the proxy ---------------------------------------------------------------------------------

sub start_proxy
{
    my ($self) = @_;
    $self->{proxy} = FleetTest::Proxy->new(map { $_ => $self->node($_)->port } $self->children);
    return;
}

sub proxy { return $_[0]{proxy}; }

# A psql whose session is kept between statements.  Each finds it as a new one would be: what SET ROLE,
# SET, LISTEN, prepared statements, advisory locks and temporary tables have left is gone.
package FleetTest::Kept;

use strict;
use warnings;
use File::Temp;
use IPC::Open3;
use PostgreSQL::Test::Utils;

my $END = '-- end of the answer';

sub new
{
    my ($class, $node, $db) = @_;
    return bless { node => $node, db => $db }, $class;
}

sub _open
{
    my ($self) = @_;
    my $node = $self->{node};
    $self->{err} = File::Temp->new;
    open my $err, '>>', $self->{err}->filename or die "$!";
    $self->{pid} = open3(my $in, my $out, '>&' . fileno $err, $node->installed_command('psql'),
        '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($self->{db}), '-f', '-');
    $in->autoflush(1);
    @$self{qw(in out)} = ($in, $out);
    return;
}

# What psql prints until it has done this; undef if it has ended before.
sub _ask
{
    my ($self, $text) = @_;
    local $SIG{PIPE} = 'IGNORE';
    local $SIG{ALRM} = sub { die "no answer: $text" };
    alarm 2 * $FleetTest::PATIENCE;
    print { $self->{in} } "$text\n;\n\\echo\n\\echo $END\n";
    my $answer = '';
    my $line;
    while (defined($line = readline $self->{out}) && $line ne "$END\n")
    {
        $answer .= $line;
    }
    alarm 0;
    return $answer =~ s/\n?\n\z//r if defined $line;
    $self->{rest} = $answer;
    return;
}

# (exit code of psql, its output, its errors): 0 if all statements succeeded, 3 if one failed, 2 if there
# is no session or it was lost.  No statement is sent twice.
sub run
{
    my ($self, $query) = @_;
    $self->close if $self->{pid} && !defined $self->_ask('DISCARD ALL');
    $self->_open unless $self->{pid};
    truncate $self->{err}, 0;
    my $answer = $self->_ask($query);
    my $rc = 0;
    my $text = slurp_file($self->{err}->filename);
    if (!defined $answer)
    {
        $answer = $self->{rest} =~ s/\n\z//r;
        $rc = $self->close;
    }
    chomp $text;
    return ($rc, $answer, $text);
}

sub close
{
    my ($self) = @_;
    my $pid = delete $self->{pid} or return 0;
    close $self->{in};
    close $self->{out};
    local ($?, $!);
    waitpid $pid, 0;
    return $? >> 8 || 2;
}

# It may wait for a server that sleeps.
sub DESTROY
{
    my ($self) = @_;
    kill 'KILL', $self->{pid} if $self->{pid};
    $self->close;
    return;
}

package FleetTest::Proxy;

use strict;
use warnings;
use Carp;
use File::Basename;
use IO::Socket::INET;
use IPC::Open2;

# new(route => port, …): starts test/proxy/proxy.py
sub new
{
    my ($class, %target) = @_;
    my $script = dirname(__FILE__) . '/../proxy/proxy.py';
    my @routes = map { "$_=0:127.0.0.1:$target{$_}" } sort keys %target;
    my $pid = open2(my $out, my $in, '/usr/bin/python3', $script, 'serve', '0', @routes);
    my $line = <$out>;
    croak 'the proxy did not start' unless defined $line;
    my %ports = map { split /=/ } split ' ', $line;
    my $control = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ports{control}") or croak "proxy: $!";
    $control->autoflush(1);
    return bless { pid => $pid, in => $in, out => $out, ports => \%ports, control => $control }, $class;
}

sub port { my ($self, $route) = @_; return $self->{ports}{$route}; }

# ctl('on', 'a1', 'c2s', 'before', 'COMMIT'): dies on an error, returns the answer
sub ctl
{
    my ($self, @words) = @_;
    print { $self->{control} } join(' ', @words), "\n";
    my $answer = readline $self->{control};
    croak 'the proxy is gone' unless defined $answer;
    chomp $answer;
    croak "proxy @words: $answer" if $answer =~ /^error/;
    return $answer;
}

# True if a rule fires within the time.
sub fired
{
    my ($self, $route, $seconds) = @_;
    return eval { $self->ctl('wait', $route, $seconds || $FleetTest::PATIENCE); 1 } ? 1 : 0;
}

# Connections that a route has taken so far.
sub accepted
{
    my ($self, $route) = @_;
    return ($self->ctl('status', $route) =~ /"accepted": (\d+)/)[0];
}

# True once it has taken so many.
sub accepts
{
    my ($self, $route, $n) = @_;
    my $end = Time::HiRes::time + $FleetTest::PATIENCE;
    select undef, undef, undef, 0.05 until $self->accepted($route) >= $n || Time::HiRes::time > $end;
    return $self->accepted($route) >= $n;
}

sub stop
{
    my ($self) = @_;
    return unless $self->{pid};
    close $self->{in};
    waitpid $self->{pid}, 0;
    delete $self->{pid};
    return;
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $!);
    $self->stop;
    return;
}

# A psql that stays: for a file of very many small statements, of which starting one each time would
# be most of the work.
package FleetTest::Session;

use strict;
use warnings;
use Carp;
use IPC::Open2;

sub new
{
    my ($class, $node, $db, $role) = @_;
    my $command = join ' ', map { "'$_'" } 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-h', $node->host, '-p', $node->port,
      '-d', $db, $role ? ('-U', $role) : ();
    my $pid = open2(my $out, my $in, "exec $command 2>&1");
    return bless { pid => $pid, in => $in, out => $out }, $class;
}

# What the statements print, errors and notices included.
sub say
{
    my ($self, $sql) = @_;
    my $text = '';
    print { $self->{in} } "$sql\n;\n\\echo said\n";
    $self->{in}->flush;
    while (defined(my $line = readline $self->{out}))
    {
        return $text =~ s/\n\z//r if $line eq "said\n";
        $text .= $line;
    }
    croak "psql ended: $text";
}

# The same; dies if one of them fails.
sub sql
{
    my ($self, $sql) = @_;
    my $text = $self->say($sql);
    return $text unless $text =~ /^(?:psql:.*)?ERROR:/m;
    Test::More::diag("$sql: $text");
    croak "$sql: $text";
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $!);
    close $self->{in};
    waitpid $self->{pid}, 0;
    return;
}

1;
