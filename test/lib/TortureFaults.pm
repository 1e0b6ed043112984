# TortureFaults.pm
#     The faults of the torture.  Each is a sub by the name that TorturePlan draws; it is given the fleet and
#     the victim, does it, and gives back what ends it (a sub), which may be due later; or, in words, why it
#     could not be done now.  Whoever is asleep or down is nobody's next victim until that is over.
package TortureFaults;

use strict;
use warnings;
use FleetTest;
use IO::Socket::INET;
use IPC::Open3;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

our $PLANNER = "OPTIONS (user 'etl', password '$FleetTest::PASSWORD')";

my %busy;      # nodes that are asleep or down: nothing is asked of them
my @holders;    # sockets that hold connections

my %do = (
    terminate => sub {
        my ($f, $v) = @_;
        return 'nobody there' unless quietly($f, $v->{node}, sprintf 'SELECT pg_terminate_backend(%s)', a_pid($v));
        return;
    },
    kill => sub {
        my ($f, $v) = @_;
        my $pid = quietly($f, $v->{node}, 'SELECT ' . a_pid($v)) or return 'nobody there';
        kill 'KILL', $pid;
        return;
    },
    sleep => sub {
        my ($f, $v) = @_;
        my $pid = quietly($f, $v->{node}, 'SELECT ' . a_pid($v)) or return 'nobody there';
        kill 'STOP', $pid;
        return sub { kill 'CONT', $pid; };
    },
    restart => sub {
        my ($f, $v) = @_;
        stop_node($f, $v->{node});
        start_node($f, $v->{node});
        return;
    },
    down => sub { return down($_[0], $_[1]{child}); },
    away => sub { return down($_[0], $_[1]{child}); },
    freeze => sub {
        my ($f, $v) = @_;
        my @pids = freeze($f, $v->{child});
        $busy{ $v->{child} } = 1;
        return sub { kill 'CONT', reverse @pids; delete $busy{ $v->{child} }; };
    },
    cut    => sub { return proxy($_[0], $_[1], 'kill'); },
    hole   => sub { return proxy($_[0], $_[1], 'hole'); },
    half   => sub { my ($f, $v) = @_; proxy($f, $v, 'half-close', $v->{dir}); return sub { proxy($f, $v, 'kill')->(); }; },
    delay  => sub { return proxy($_[0], $_[1], 'delay', 10 * $_[1]{times}); },
    drop   => sub { return proxy($_[0], $_[1], 'drop-after', $_[1]{dir}, $_[1]{bytes}); },
    match  => sub { my ($f, $v) = @_; return proxy($f, $v, 'on', @$v{qw(dir when message)}, 'kill', 1, $v->{times} % 4); },
    strand => sub { my ($f, $v) = @_; return proxy($f, $v, 'on', 'c2s', 'before', $v->{message}, 'strand', 1, $v->{times} % 4); },
    point  => sub { return point($_[0], $_[1], ($_[1]{when} eq 'before' ? 'exit' : 'kill') . " $_[1]{times}"); },
    stop   => sub { return point($_[0], $_[1], 'wait'); },
    full   => \&all_workers,
    crowd  => \&all_connections,
    disk   => \&full_disk,
    promote => sub { return promote($_[0], 0); },
    zombie  => sub { return promote($_[0], 1); },
    mapping   => ddl('DROP USER MAPPING FOR planner SERVER CHILD', "CREATE USER MAPPING FOR planner SERVER CHILD $PLANNER"),
    usage     => ddl('REVOKE USAGE ON FOREIGN SERVER CHILD FROM planner', 'GRANT USAGE ON FOREIGN SERVER CHILD TO planner'),
    unmapped  => ddl('ALTER USER MAPPING FOR planner SERVER CHILD OPTIONS (DROP password)',
        "ALTER USER MAPPING FOR planner SERVER CHILD OPTIONS (ADD password '$FleetTest::PASSWORD')"),
    rename    => ddl('ALTER SERVER CHILD RENAME TO renamed', 'ALTER SERVER renamed RENAME TO CHILD'),
    elsewhere => ddl(q{ALTER SERVER CHILD OPTIONS (SET port '1')}, q{ALTER SERVER CHILD OPTIONS (SET port 'PORT')}),
    dropped => sub {
        my ($f, $v) = @_;
        statement($f, 'parent', "DROP SERVER $v->{child} CASCADE");
        return sub {
            my $options = join ', ', map { s/=(.*)/ '$1'/r } split ' ', $f->conninfo($v->{child});
            statement($f, 'parent', "CREATE SERVER $v->{child} FOREIGN DATA WRAPPER pg_fleet OPTIONS ($options)");
            # what took its name meanwhile would not be it
            statement($f, 'parent', "SELECT fleet.register_server(s.name::text, s.mode, s.slots, s.groups, s.weight) FROM fleet_catalog.server AS s WHERE s.name = '$v->{child}'");
            Torture::map_roles($f, $v->{child});
        };
    },
    password => sub {
        my ($f, $v) = @_;
        return 'down' if $busy{ $v->{child} };
        statement($f, $v->{child}, q{ALTER ROLE etl PASSWORD 'another'});
        $f->proxy->ctl('kill', $v->{child});
        return sub { statement($f, $v->{child}, "ALTER ROLE etl PASSWORD '$FleetTest::PASSWORD'"); };
    },
    nologin => sub {
        my ($f, $v) = @_;
        my $role = $v->{node} eq 'parent' ? 'planner' : 'etl';
        return 'down' if $busy{ $v->{node} };
        statement($f, $v->{node}, "ALTER ROLE $role NOLOGIN");
        return sub { statement($f, $v->{node}, "ALTER ROLE $role LOGIN"); };
    });

# commit(fleet, action): (what ends it or nothing, why it was not done)
sub commit
{
    my ($f, $v) = @_;
    my $node = victim($v);
    return (undef, "$node is down") if defined $node && $busy{$node};
    my $end = $do{ $v->{what} }->($f, $v);
    return ref $end ? ($end) : (undef, $end);
}

# Whose fault it is: the node that is hit.
sub victim
{
    my ($v) = @_;
    return $v->{node} if $v->{what} =~ /^(?:terminate|kill|sleep|restart|nologin)$/;
    return $v->{agent} if $v->{what} =~ /^(?:point|stop|full)$/;
    return $v->{child} if $v->{what} =~ /^(?:down|away|freeze|crowd|password)$/;
    return 'a2' if $v->{what} eq 'disk';
    return;
}

# ---- what they are made of ---------------------------------------------------------------------

# A statement that must succeed in the end: the server may just come back.
sub statement
{
    my ($f, $node, $sql) = @_;
    my $end = time + 2 * $FleetTest::PATIENCE;
    while (1)
    {
        my ($rc, $out, $err) = $f->kept($node)->run($sql);
        return $out if $rc == 0;
        # what the server itself refuses, it refuses the next time too
        $end = time + 5 if $err =~ /ERROR:/ && $end > time + 5;
        die "$node: $sql: $err" if time > $end;
        select undef, undef, undef, 0.05;    # (time passes) until it is back
    }
}

# One that may fail.
sub quietly
{
    my ($f, $node, $sql) = @_;
    my ($rc, $out) = $f->kept($node)->run($sql);
    return $rc == 0 && $out ne '' && $out ne 'f' ? $out : undef;
}

sub a_pid
{
    my ($v) = @_;
    my $who = $v->{who};
    $who = 'session' if $v->{node} eq 'd1';
    $who = 'agent' if $v->{node} eq 'parent' && $who eq 'session';
    my $where = $who eq 'session' ? q{application_name LIKE 'pg_fleet ________ %'} : "backend_type LIKE 'pg_fleet $who%' AND datname = '$FleetTest::DB'";
    return "(SELECT pid FROM pg_stat_activity WHERE $where ORDER BY state = 'active' DESC, backend_start OFFSET $v->{times} % 3 LIMIT 1)";
}

sub ddl
{
    my ($take, $give) = @_;
    return sub {
        my ($f, $v) = @_;
        my ($t, $g) = map { s/CHILD/$v->{child}/r =~ s/PORT/$f->port_of($v->{child})/er } $take, $give;
        my ($rc, $out, $err) = $f->kept('parent')->run($t);
        return (split /\n/, $err)[0] if $rc != 0;
        return sub { statement($f, 'parent', $g); };
    };
}

sub proxy
{
    my ($f, $v, $word, @rest) = @_;
    $f->proxy->ctl($word, $v->{child}, @rest);
    return sub { $f->proxy->ctl('allow', $v->{child}); };
}

sub point
{
    my ($f, $v, $word) = @_;
    my $node = $f->node($v->{agent});
    my $path = $node->data_dir . "/fleet_points/$v->{point}";
    $f->point($v->{agent}, $v->{point}, $word);
    # of this very cluster: the parent may be another one then
    return sub { unlink "$path.waiting", $path; };
}

sub stop_node
{
    my ($f, $name) = @_;
    $f->forget($name);
    $f->node($name)->stop('immediate', fail_ok => 1);
    return;
}

# It comes up, also if it has to be asked again: a full disk, a port whose last user has just gone.
sub start_node
{
    my ($f, $name) = @_;
    my $end = time + $FleetTest::PATIENCE;
    until ($f->node($name)->start(fail_ok => 1))
    {
        die "$name does not start" if time > $end;
        select undef, undef, undef, 0.2;    # (time passes) until it can
    }
    return;
}

sub down
{
    my ($f, $name) = @_;
    stop_node($f, $name);
    $busy{$name} = 1;
    return sub { start_node($f, $name); delete $busy{$name}; };
}

# All processes of a cluster sleep: nobody is born meanwhile.
sub freeze
{
    my ($f, $name) = @_;
    my ($postmaster) = slurp_file($f->node($name)->data_dir . '/postmaster.pid') =~ /^(\d+)/;
    kill 'STOP', $postmaster;
    my @pids = $f->processes($name);
    kill 'STOP', @pids;
    return @pids;
}

# Every worker slot is taken: parallel workers sleep in them.
sub all_workers
{
    my ($f, $v) = @_;
    my $node = $f->node($v->{agent});
    my $seconds = $v->{for};
    my $pid = open3(my $in, my $out, undef, $node->installed_command('psql'), '-XAtq', '-d', $node->connstr($FleetTest::DB), '-c',
        "SET max_parallel_workers = 24; SET max_parallel_workers_per_gather = 24; SET min_parallel_table_scan_size = 0; "
          . "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET statement_timeout = '${seconds}s'; "
          . 'SELECT count(*) FROM public.hog WHERE pg_sleep(60) IS NULL');
    close $in;
    return sub { kill 'TERM', $pid; waitpid $pid, 0; close $out; };
}

# Every connection slot is taken: sockets that have said who they are and never log in.
sub all_connections
{
    my ($f, $v) = @_;
    my $port = $f->node($v->{child})->port;
    my $body = pack('N', 196_608) . "user\0etl\0database\0$FleetTest::DB\0\0";
    for (1 .. 60)
    {
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 2) or last;
        print { $socket } pack('N', 4 + length $body) . $body;
        $socket->flush;
        push @holders, $socket;
    }
    return sub { @holders = (); };
}

# A file fills the small disk of a2 (test/run.sh makes one where it can).
sub full_disk
{
    my ($f) = @_;
    my $disk = $ENV{TORTURE_DISK} or return 'no small disk here';
    open my $file, '>', "$disk/fill" or return "$!";
    my $block = 'x' x 65_536;
    1 while syswrite($file, $block);
    close $file;
    return sub {
        unlink "$disk/fill";
        # it may have gone, and come up again only now
        stop_node($f, 'a2');
        start_node($f, 'a2');
    };
}

# ---- the parent and its standby ----------------------------------------------------------------

my $standbys = 0;

# A new one, synchronous: what the parent has acted upon is there too.
sub make_standby
{
    my ($f) = @_;
    my $parent = $f->parent;
    my $name = 'standby' . ++$standbys;
    $parent->backup($name);
    my $standby = PostgreSQL::Test::Cluster->new($name);
    $standby->init_from_backup($parent, $name, has_streaming => 1);
    $standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\nwal_retrieve_retry_interval = '100ms'");
    $standby->start;
    rmtree_quietly($parent->backup_dir . "/$name");
    $f->{standby} = $standby;
    # (its data directory tells its name to nobody: the last line holds)
    $parent->append_conf('postgresql.conf', "synchronous_standby_names = '*'");
    $parent->reload;
    return;
}

sub rmtree_quietly { require File::Path; File::Path::remove_tree($_[0]); return; }

# The standby has all that the parent has said.
sub caught_up
{
    my ($f) = @_;
    return quietly($f, 'parent', q{SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync' AND replay_lsn >= pg_current_wal_flush_lsn()});
}

sub promote
{
    my ($f, $zombie) = @_;
    my $end = time + 10;
    until (caught_up($f))
    {
        return 'the standby is behind' if time > $end;
        select undef, undef, undef, 0.02;    # (time passes) until it is not
    }
    my $old = $f->parent;
    my @pids;
    if ($zombie) { @pids = freeze($f, 'parent'); }
    else { stop_node($f, 'parent'); }
    my $new = delete $f->{standby};
    $new->promote;
    $f->{nodes}{parent} = $new;
    $f->{replaced} = $old;
    return unless @pids;
    return sub {
        # what they hear first when they wake up is that they are to go
        kill 'QUIT', @pids;
        kill 'CONT', @pids;
        delete $f->{kept}{ $old->name . " $FleetTest::DB" };
        $old->stop('immediate', fail_ok => 1);
    };
}

# When nothing else is to happen: the parent has a standby again.
sub after_promotion
{
    my ($f) = @_;
    my $old = delete $f->{replaced} or return;
    $old->clean_node;
    make_standby($f);
    return;
}

1;
