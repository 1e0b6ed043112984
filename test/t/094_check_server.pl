# CALL fleet.check_server(): the agent logs in at once as the caller's jobs would, and says what it found;
# whatever the server's state is, whoever else asks, and whatever becomes of the agent and of the server
# meanwhile.  That what waits goes on when a server is back is seen without waiting for the next attempt.
use strict;
use warnings;
use FleetTest;
use IPC::Run;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1, delays => 0, conf => "fleet.probe_interval = 0\n");
$f->sql(q{CREATE ROLE other LOGIN; CREATE ROLE mate LOGIN; GRANT USAGE ON FOREIGN SERVER a1, d1 TO mate});

my $ME = $f->sql('SELECT current_user');
sub check { my ($server) = @_; return $f->try_as(undef, "CALL fleet.check_server('$server')"); }
sub takes
{
    my ($server, $name, $like) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($rc, undef, $err) = check($server);
    return like($rc == 0 ? $err : "rc $rc: $err", qr/INFO: .*server "$server" takes role "$ME": PostgreSQL \d+\S*.*, mode (?:agent|direct); $like/, $name);
}
sub refuses
{
    my ($server, $sqlstate, $like, $name, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $f->fails("CALL fleet.check_server('$server')", $sqlstate, $name, as => $opt{as}, like => $like, help => 1);
}

# One that waits, and what it says in the end.
sub begin
{
    my ($server) = @_;
    my $node = $f->parent;
    my %call = (out => '');
    $call{run} = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($FleetTest::DB), '-c', "CALL fleet.check_server('$server')" ],
        '<', \undef, '>&', \$call{out});
    return \%call;
}
sub end { my ($call) = @_; $call->{run}->finish; return $call->{out}; }
sub asking { my ($n, $name) = @_; return $f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL fleet.check_server%' AND wait_event_type = 'Extension'}, $n, $name); }

# ---- who may, and what is said -----------------------------------------------------------------

$f->fails(q{CALL fleet.check_server('nobody')}, '42704', 'no such server', help => 1);
$f->fails(q{CALL fleet.check_server(NULL)}, '22004', 'no name');
refuses($_, '42501', 'permission denied for server', "$_: whoever may not use it", as => 'other') for qw(a1 d1);
refuses($_, '42704', 'user mapping', "$_: whoever has no user mapping", as => 'mate') for qw(a1 d1);
takes($_, "$_: it takes the role", 'logged in after \d') for qw(a1 d1);
$f->fails(q{BEGIN; CREATE SERVER new FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '127.0.0.1'); CREATE USER MAPPING FOR CURRENT_USER SERVER new OPTIONS (password 'p');
    SELECT fleet.register_server('new'); CALL fleet.check_server('new')}, '55000', 'one that is not committed', like => 'not committed');
for my $server (qw(a1 d1))
{
    $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
    takes($server, "$server: offline too", '(?s:.*)INFO: .*it is offline');
    $f->sql("SELECT fleet.set_server_state('$server', 'online')");
}

# ---- each time another login -------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    my $before = $f->sql_on($server, q{SELECT sessions FROM pg_stat_database WHERE datname = 'dw'});
    takes($server, "$server: once more", 'logged in') for 1 .. 3;
    $f->wait_for($server, "SELECT sessions >= $before + 3 FROM pg_stat_database WHERE datname = 'dw'", 't', "$server: three logins");
    $f->sql_on($server, q{ALTER ROLE etl PASSWORD 'another'});
    refuses($server, '28P01', 'password', "$server: another password there");
    is($f->sql("SELECT state FROM fleet.server_status WHERE server = '$server'"), 'auth_failed', "$server: fleet.server_status says so, by then");
    $f->sql_on($server, "ALTER ROLE etl PASSWORD '$FleetTest::PASSWORD'");
    takes($server, "$server: the right one again", 'logged in');
    is($f->sql("SELECT state FROM fleet.server_status WHERE server = '$server'"), 'online', "$server: and so does it");
}
$f->sql_on('a1', 'DROP EXTENSION pg_fleet CASCADE');
refuses('a1', '3F000', 'not installed', 'a1: without the extension');
$f->sql_on('a1', 'CREATE EXTENSION pg_fleet; GRANT fleet_operator TO etl');
takes('a1', 'a1: with it', 'logged in');

# ---- away, and back ----------------------------------------------------------------------------

$f->job('work', 'SELECT 1');
$f->job('hold', 'SELECT etl.work_until_released()');
for my $server (qw(a1 d1))
{
    $f->package("on $server", t => { job => 'work', server => $server });
    $f->proxy->ctl('refuse', $server);
    refuses($server, '08\w\w\w', '.', "$server: nobody is there");
    my $run = $f->start("on $server");
    # each attempt is further away than the one before
    my $refused = sub { return $f->sql("SELECT last_error_at FROM fleet.server_status WHERE server = '$server'"); };
    my $last = $refused->();
    for (1 .. 2)
    {
        $f->wait_for('parent', "SELECT last_error_at > '$last' FROM fleet.server_status WHERE server = '$server'", 't', "$server: it is tried");
        $last = $refused->();
    }
    $f->proxy->ctl('allow', $server);
    takes($server, "$server: it is back", 'logged in');
    $f->run_is($run, 'succeeded', "$server: what waited for it goes on");
}

# ---- while it is in use ------------------------------------------------------------------------

$f->package('both', -params => '{"key": "both"}', map { $_ => { job => 'hold', server => $_ } } qw(a1 d1));
my $run = $f->start('both');
$f->wait_started('both', 2);
takes($_, "$_: it is in use, and stays so", 'it is in use just now') for qw(a1 d1);
$f->release('both');
$f->run_is($run, 'succeeded', 'what ran there has not been disturbed');

# ---- what happens meanwhile --------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    $f->proxy->ctl('kill', $server);
    $f->proxy->ctl('hole', $server);
    my @calls = map { begin($server) } 1 .. 4;
    asking(4, "$server: four ask");
    $f->fails("CALL fleet.check_server('$server')", '53400', "$server: a fifth one cannot", help => 1);
    my $other = $server eq 'a1' ? 'd1' : 'a1';
    $f->sql("SELECT count(pg_cancel_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL fleet.check_server%' ORDER BY pid LIMIT 1) AS s");
    asking(3, "$server: one is canceled");
    takes($other, "$server: another server is asked meanwhile", 'logged in');
    # the link is made anew, and another agent comes: it is asked again
    $f->sql("SELECT fleet.alter_server('$server', weight => 2)");
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid", '1', "$server: a new agent");
    $f->sql("SELECT fleet.alter_server('$server', weight => 1)");
    $f->proxy->ctl('allow', $server);
    $f->proxy->ctl('kill', $server);
    my @said = map { end($_) } @calls;
    is(scalar(grep { /canceling statement due to user request/ } @said), 1, "$server: one was canceled") or diag(@said);
    is(scalar(grep { /takes role "\Q$ME\E"|ERROR:  08/ } @said), 3, "$server: the others have their answer") or diag(@said);
    takes($server, "$server: and so has the next", 'logged in');
}

# It is dropped while it is asked.
$f->sql(sprintf q{SELECT fleet.add_server('gone', '%s', username => 'etl', password => '%s', mode => 'direct')}, $f->conninfo('d1'), $FleetTest::PASSWORD);
$f->proxy->ctl('hole', 'd1');
my $call = begin('gone');
asking(1, 'one is asked');
$f->sql(q{SELECT fleet.remove_server('gone')});
like(end($call), qr/ERROR:  55000: .*was dropped/, '… and dropped meanwhile: that is the answer');
$f->proxy->ctl('allow', 'd1');
$f->done;
