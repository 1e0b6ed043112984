# Servers that ask for too much in the login: a hundred million iterations of SCRAM are minutes in
# which libpq hears nothing, and so would the agent.  They are refused before libpq reads them, with TLS
# and without, however the message comes; what a server may ask for is computed.
# The server is test/fakeserver.
use strict;
use warnings;
use FakeServer;
use FleetTest qw(quote_literal);
use Test::More;

my $f = FleetTest->new(witness => 0, delays => 0);
my $fake = FakeServer->new;
$fake->ctl(auth => 'scram', password => 'secret');
$f->sql(q{CREATE ROLE other LOGIN; SET ROLE other; SELECT fleet.create_package('line'); SELECT fleet.add_task('line', 't', sql => 'SELECT 1')});

sub others_go_on
{
    my ($name) = @_;
    is($f->sql(q{CALL fleet.execute_package('line')}), '', "$name: another role's run succeeds meanwhile");
    return;
}

my $servers = 0;
sub begin
{
    my ($mode) = @_;
    my $name = 'fake' . ++$servers;
    my $run = $f->sql(sprintf <<'SQL' =~ s/NAME/$name/gr, map { quote_literal($_) } $fake->conninfo, $mode) =~ s/.*\n//sr;
SELECT fleet.add_server('NAME', %s, username => 'etl', password => 'secret', mode => %s, slots => 1);
SELECT fleet.create_job('NAME');
SELECT fleet.add_step('NAME', 's', 'SELECT 7');
SELECT fleet.create_package('NAME');
SELECT fleet.add_task('NAME', 't', job => 'NAME', server => 'NAME');
SELECT fleet.run_parent_package('NAME');
SQL
    return ($name, $run);
}
sub offline { my ($server) = @_; $f->sql("SELECT fleet.set_server_state('$server', 'offline')"); return; }

sub fails_with
{
    my ($mode, $sqlstate, $message, $name) = @_;
    my ($server, $run) = begin($mode);
    $f->wait_for('parent', "SELECT state || '|' || sqlstate || '|' || message FROM fleet.task_run WHERE run_id = $run", "failed|$sqlstate|$message", "$name: the task fails, with the reason");
    others_go_on($name);
    offline($server);
    return;
}

# The link is down, the reason is shown, and it is tried again: nothing else stands still.
sub is_down_with
{
    my ($mode, $reason, $name) = @_;
    my ($server, $run) = begin($mode);
    $f->wait_for('parent', "SELECT last_error FROM fleet.server_status WHERE server = '$server'", $reason, "$name: the link says why it is down");
    others_go_on($name);
    $f->sql("SELECT fleet.cancel_run($run)");
    offline($server);
    $f->run_is($run, 'canceled', "$name: it can be canceled");
    return;
}

my @answer = ([ on => '^execute SELECT 7', send => [ [ 'complete', 'SELECT 1' ] ] ]);
my $TOO_MANY = 'refused: the server asks for %s iterations of SCRAM-SHA-256, and at most 100000 are computed';
my $STRANGE = q{the server's answer to the login is not understood};
for my $tls (0, 1)
{
    my $with = $tls ? 'with TLS' : 'without TLS';
    $fake->tls($tls);
    $fake->rules(@answer);

    # what is refused
    for my $n (100001, 100000000, 2147483647)
    {
        $fake->ctl(iterations => $n, pieces => JSON::PP::false);
        fails_with($_, '28000', sprintf($TOO_MANY, $n), "$n iterations, mode $_, $with") for qw(direct agent);
    }
    my $agent = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($agent)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw' AND pid <> $agent", '1', "$with: SIGTERM is heard");

    # … and what is not
    for my $n (1, 4096, 100000)
    {
        $fake->ctl(iterations => $n);
        my ($server, $run) = begin('direct');
        $f->run_is($run, 'succeeded', "$n iterations, $with: it logs in");
        offline($server);
    }

    # a login is always looked at: at the second connection too, which is there for a cancel
    $fake->rules([ on => '^execute SELECT 7', send => ['hang'] ]);
    $fake->ctl(iterations => 4096);
    my ($server, $run) = begin('direct');
    my $end = time + $FleetTest::PATIENCE;
    select undef, undef, undef, 0.02 until $fake->fired || time > $end; # (time passes) between two looks
    ok($fake->fired, "$with: the step runs");
    $fake->ctl(iterations => 100000000);
    my $connections = $fake->stats->{connections};
    $f->sql("SELECT fleet.cancel_run($run)");
    select undef, undef, undef, 0.02 until $fake->stats->{connections} > $connections || time > $end; # (time passes) between two looks
    cmp_ok($fake->stats->{connections}, '>', $connections, "$with: a connection for the cancel");
    others_go_on("a cancel, $with");
    $fake->ctl(iterations => 4096, cut => JSON::PP::true);
    $f->run_is($run, 'canceled', "$with: the run ends as it was asked to");
    offline($server);
}

# ---- however it comes ---------------------------------------------------------------------------

$fake->tls(0);
$fake->rules(@answer);
$fake->ctl(pieces => JSON::PP::true, iterations => 4096);
my ($server, $run) = begin('direct');
$f->run_is($run, 'succeeded', 'byte by byte, what may be asked for');
offline($server);
$fake->ctl(iterations => 100000000);
fails_with('direct', '28000', sprintf($TOO_MANY, 100000000), 'byte by byte, too many');
$fake->ctl(pieces => 'early');
is_down_with('direct', 'no answer to the attempt to connect within 10 seconds', 'its first bytes before they were asked for'); # the rest never comes
$fake->tls(1);
is_down_with('direct', $STRANGE, 'the same with TLS');
$fake->ctl(pieces => JSON::PP::true);
is_down_with('direct', $STRANGE, 'byte by byte with TLS, each a record');
$fake->tls(0);
$fake->ctl(auth => 'trust', pieces => JSON::PP::false);
for my $case ([ 'no message', '5a5a5a5a5a5a5a' ], [ 'a message of 1 GB', '5240000000' ], [ 'a message that is too short', '520000000400000000' ])
{
    my ($name, $hex) = @$case;
    $fake->rules([ on => '^startup', send => [ [ 'raw', $hex ], 'hang' ] ]);
    is_down_with('direct', $STRANGE, $name);
}

$f->done;
