# Servers that lie: a login error that contains the password, and copies that nobody asked for.  They
# make their own tasks and links fail, with the reason; the agent hears everything else meanwhile.
# The server is test/fakeserver; what a real one says to COPY in a step is looked at last.
use strict;
use warnings;
use utf8;
use FakeServer;
use FleetTest qw(quote_literal);
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(direct => 1, witness => 0);
my $fake = FakeServer->new;
my $IS_AGENT = q{backend_type LIKE 'pg_fleet agent%'};

$f->sql(<<'SQL');
CREATE ROLE other LOGIN;
CREATE TABLE etl.note (key text);
GRANT USAGE ON SCHEMA etl TO other;
GRANT INSERT ON etl.note TO other;
SQL
$f->sql_as('other', q{SELECT fleet.create_package('line'); SELECT fleet.add_task('line', 't', sql => 'INSERT INTO etl.note VALUES (''line'')')});

# Somebody else's work goes on.
sub others_go_on
{
    my ($name) = @_;
    my ($rc, $out, $err) = $f->try_as('other', q{CALL fleet.execute_package('line')});
    is($rc, 0, "$name: another role's run succeeds meanwhile") or diag($err);
    return;
}

# SIGTERM is heard: the agent ends, and another one is there.
sub term_is_heard
{
    my ($name) = @_;
    my $pid = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE $IS_AGENT AND datname = 'dw' AND pid <> $pid", '1', "$name: SIGTERM is heard");
    return;
}

sub fired
{
    my ($rule, $name) = @_;
    my $end = time + $FleetTest::PATIENCE;
    select undef, undef, undef, 0.02 until $fake->fired($rule) || time > $end; # (time passes) between two looks
    ok($fake->fired($rule) >= 1, $name);
    return;
}

# A server of its own, and a run that has one job of one step there: (server, run).
sub begin { return $fake->begin($f, @_); }

sub offline { my ($server) = @_; $f->sql("SELECT fleet.set_server_state('$server', 'offline')"); return; }

# The run has failed with this, by its task; and nothing more is tried there.
sub failed_with
{
    my ($run, $server, $sqlstate, $message, $name) = @_;
    $f->wait_for('parent', "SELECT sqlstate || '|' || message FROM fleet.task_run WHERE run_id = $run AND state = 'failed'", "$sqlstate|$message", "$name: the task fails, with the reason");
    offline($server);
    return;
}

# The link says why it is down, somebody else goes on, and a cancel is heard.
sub link_is_down
{
    my ($run, $server, $reason, $name) = @_;
    $f->wait_for('parent', "SELECT last_error FROM fleet.server_status WHERE server = '$server'", $reason, "$name: the link says why it is down");
    others_go_on($name);
    $f->sql("SELECT fleet.cancel_run($run); SELECT fleet.set_server_state('$server', 'offline')");
    $f->run_is($run, 'canceled', "$name: canceled");
    return;
}

# ---- a login error that contains the password ---------------------------------------------------

my $long = 'x' x 690;
my @secrets = (
    # password, what the server says, what is kept of it
    [ '***',       'no ***{password} and {password}!',           'no ****** and ***!' ],
    [ '*******',   '{password}{password}{password}*',            '*' x 22 ],
    [ 'aba',       'x ababa y abababa aba z',                    'x ***** y ******* *** z' ],
    [ 'aa1',       'aa1 ' x 99 . 'aa1',                                '*** ' x 99 . '***' ],
    [ 'a',         'password "a" of a man was bad: a',           'password "*" of * man was bad: *' ],
    [ 'xy',        'xy or "xy", xyz and axy_ yx',                '** or "**", xyz and axy_ yx' ],
    [ 'käse€',     'no käse€käse€, käse',                        'no ' . '*' x 16 . ', käse' ],
    [ q{p'q"r\s},  q{raw p'q"r\s, conninfo p\\'q"r\\\\s, json p'q\\"r\\\\s, sql p''q"r\s.},
      'raw *******, conninfo *********, json *********, sql ********.' ],
    [ 'p@s/w%',    'p@s/w% p%40s%2Fw%25 p%40s%2fw%25 p%40s',     '****** ************ ************ p%40s' ],
    [ '28P01',     'code 28P01',                                 'code *****' ],
    [ 'secret-at-the-cut', "$long secret-at-the-cut",            "$long *********" ],
);
my $PREFIX = 'connection to server at "127.0.0.1", port ' . $fake->port . ' failed: FATAL:  ';
$fake->ctl(auth => 'cleartext');
for my $case (@secrets)
{
    my ($password, $says, $kept) = @$case;
    my $name = 'password ' . (length $password > 12 ? substr($password, 0, 12) : $password);
    utf8::encode(my $bytes = $password);
    utf8::encode($_) for $name, $kept;
    $fake->rules([ on => '^password', send => [ [ 'fatal', '28P01', $says ] ] ]);
    my ($server, $run) = begin('direct', $bytes, sql => 'SELECT 1');
    failed_with($run, $server, '28P01', $PREFIX . $kept, $name);
}
others_go_on('passwords');
unlike(slurp_file($f->parent->logfile), qr/secret-at-the-cut|"aba"/, 'no password is in the log of the server');

# none at all: nothing is covered, and nothing hangs
$fake->ctl(auth => 'trust');
$fake->rules([ on => '^login', send => [ [ 'fatal', '28P01', 'no *** and nothing' ] ] ]);
my ($server, $run) = begin('direct', undef, sql => 'SELECT 1');
failed_with($run, $server, '28P01', $PREFIX . 'no *** and nothing', 'no password');

# the error that once was an endless loop, in the other mode, and SIGTERM
$fake->ctl(auth => 'cleartext');
$fake->rules([ on => '^password', send => [ [ 'fatal', '57P03', 'no ***' ] ] ]);
($server, $run) = begin('agent', '***', sql => 'SELECT 1');
$f->wait_for('parent', "SELECT last_error FROM fleet.server_status WHERE server = '$server'", $PREFIX . 'no ***', 'password ***, mode agent: the link says why it is down');
term_is_heard('password ***');
link_is_down($run, $server, $PREFIX . 'no ***', 'password ***, mode agent');

# after the login: the last words of a session, an error to the hello
$fake->rules([ on => '^execute SELECT pg_catalog.pg_backend_pid', send => [ [ 'fatal', '57P01', 'it was {password}' ] ] ]);
($server, $run) = begin('direct', 'last-words', sql => 'SELECT 1');
link_is_down($run, $server, 'it was **********', 'last words of a session');
$fake->rules([ on => '^execute .*agent_hello', send => [ [ 'error', '55000', 'you are {password}' ] ] ]);
($server, $run) = begin('agent', 'hello-words', sql => 'SELECT 1');
link_is_down($run, $server, 'you are ***********', 'an error to the hello');

# ---- a copy that nobody asked for ---------------------------------------------------------------

$fake->ctl(auth => 'trust');
my $COPY = 'unexpected COPY response from server';
my %command = ('one statement' => { sql => 'SELECT 7' },
    'not a transaction' => { sql => 'VACUUM', transactional => 'false' },
    'several statements' => { sql => 'SELECT 7; SELECT 8' });

for my $case (
    [ 'copyin',   'direct', 'the first question', '^execute SELECT pg_catalog.pg_backend_pid' ],
    [ 'copyboth', 'direct', 'the sweep',          '^execute SELECT pg_catalog.pg_terminate_backend' ],
    [ 'copyout',  'direct', 'BEGIN',              '^execute BEGIN' ],
    [ 'copyboth', 'agent',  'the search path',    '^execute SELECT pg_catalog.set_config' ],
    [ 'copyin',   'agent',  'the hello',          '^execute SELECT \* FROM fleet_link.agent_hello' ],
    [ 'copyout',  'agent',  'the hello',          '^execute SELECT \* FROM fleet_link.agent_hello' ],
    [ 'copyboth', 'agent',  'the hello',          '^execute SELECT \* FROM fleet_link.agent_hello' ],
    [ 'copyout',  'agent',  'LISTEN',             '^execute LISTEN' ])
{
    my ($kind, $mode, $what, $on) = @$case;
    $fake->rules([ on => $on, send => [$kind] ]);
    ($server, $run) = begin($mode, undef, sql => 'SELECT 1');
    link_is_down($run, $server, $COPY, "$kind to $what, mode $mode");
}

# a start: it is sent again, since the other side says that it does not know it; this one then says nothing about it
$fake->rules([ on => '^execute SELECT \* FROM fleet_link.agent_start', send => ['copyin'] ]);
($server, $run) = begin('agent', undef, sql => 'SELECT 1');
$f->wait_for('parent', "SELECT last_error FROM fleet.server_status WHERE server = '$server'", $COPY, 'copyin to a start: the link says why it is down');
others_go_on('copyin to a start');
$fake->rules([ on => '^execute SELECT \* FROM fleet_link.agent_resume', send => [ [ 'row', [ { i4 => 1 }, undef, undef, undef ] ], [ 'complete', 'SELECT 1' ] ] ]);
failed_with($run, $server, 'XX000', 'the server gave no answer', 'copyin to a start, and then no answer');

for my $kind (qw(copyin copyout copyboth))
{
    # a command: it fails, and is not done again
    for my $what (sort keys %command)
    {
        $fake->rules([ on => '^(?:execute|query) (?:SELECT 7|VACUUM)', send => [ $kind, $kind ] ]);
        ($server, $run) = begin('direct', undef, %{ $command{$what} });
        failed_with($run, $server, '08P01', $COPY, "$kind to $what");
        is($f->sql("SELECT state, sqlstate, attempt FROM fleet.job_log WHERE run_id = $run"), 'failed|08P01|1', "$kind to $what: the step once");
        is($fake->fired, 1, "$kind to $what: it was sent once");
    }
    others_go_on("$kind to a command");
}

# once, to what surrounds a command: the session is lost, and the next one does it right
for my $case ([ 'copyin', '^execute BEGIN' ], [ 'copyout', '^execute SELECT pg_catalog.set_config' ], [ 'copyin', '^execute COMMIT' ])
{
    my ($kind, $on) = @$case;
    $fake->rules([ on => $on, send => [$kind], count => 1 ], [ on => '^execute SELECT 7', send => [ [ 'complete', 'SELECT 1' ] ] ]);
    ($server, $run) = begin('direct', undef, sql => 'SELECT 7');
    $f->run_is($run, 'succeeded', "$kind once to $on: the run succeeds");
    my @fired = @{ $fake->stats->{fired} };
    is($fired[0], 1, "$kind once to $on: it was answered so");
    # What was in the same packet as the first two may have been read there, or not.
    is($fired[1], 2, "$kind once to $on: what surely did not commit was done again") if $on =~ /COMMIT/;
    offline($server);
}

# to the second connection: what became of the transaction?
for my $kind (qw(copyin copyout copyboth))
{
    $fake->rules(
        [ on => '^execute COMMIT', send => ['close'], count => 1 ],
        [ on => '^execute .*pg_xact_status', send => [$kind], count => 1 ],
        [ on => '^execute SELECT 7', send => [ [ 'complete', 'SELECT 1' ] ] ]);
    ($server, $run) = begin('direct', undef, sql => 'SELECT 7');
    $f->run_is($run, 'succeeded', "$kind to a question about a transaction: the run succeeds");
    is("@{ $fake->stats->{fired} }", '1 1 2', "$kind to a question about a transaction: it is asked again");
    offline($server);
}

# … a cancel, a look whether the session is still at work
$fake->rules(
    [ on => '^execute SELECT 7', send => ['hang'] ],
    [ on => '^execute .*pg_cancel_backend', send => ['copyin'], count => 1 ],
    [ on => '^execute SELECT state FROM pg_catalog.pg_stat_get_activity', send => ['copyout'] ]);
($server, $run) = begin('direct', undef, sql => 'SELECT 7');
fired(0, 'the command is sent');
$f->sql("SELECT fleet.cancel_run($run)");
fired(1, 'a copy to a cancel');
others_go_on('a copy to a cancel');
fired(2, 'a copy to a look whether the session is at work');
others_go_on('a copy to a look at the session');
term_is_heard('a copy to the second connection');
$fake->rules();
$fake->ctl(cut => JSON::PP::true);
$f->run_is($run, 'canceled', 'a copy to the second connection: the run ends as it was asked to');
offline($server);

# ---- input without an end -----------------------------------------------------------------------

# answers after answers that nobody asked for, rows of a copy, notices
for my $case ([ 'copy data', 'copyout', [ 'times', 100000, [ 'copydata', 'x' x 20 ] ] ],
    [ 'results', [ 'times', 50000, [ 'complete', 'SELECT 1' ] ] ],
    [ 'copies', [ 'times', 50000, 'copyout' ] ])
{
    my ($name, @send) = @$case;
    $fake->rules([ on => '^query VACUUM', send => \@send, count => 1 ]);
    ($server, $run) = begin('direct', undef, sql => 'VACUUM -- copy', transactional => 'false');
    fired(0, "endless $name: sent");
    others_go_on("endless $name");
    $f->sql("SELECT fleet.cancel_run($run); SELECT fleet.set_server_state('$server', 'offline')");
    $fake->ctl(cut => JSON::PP::true);
    isnt($f->wait_run($run), '', "endless $name: the run ends");
}

# ---- COPY as a step ------------------------------------------------------------------------------

my @copies = (
    'COPY etl.t FROM STDIN',
    'COPY etl.t TO STDOUT',
    q{copy (SELECT i, repeat('x', 100) FROM generate_series(1, 1000000) AS i) to stdout},
    '/* c */ COPY etl.t FROM STDIN',
    "-- c\n COPY etl.t TO STDOUT",
    'INSERT INTO etl.t VALUES (4); COPY etl.t FROM STDIN',
    'COPY etl.t TO STDOUT; COPY etl.t TO STDOUT; COPY etl.t FROM STDIN; COPY etl.t FROM STDIN',
);
for my $server (qw(parent d1))
{
    $f->sql_on($server, 'SET ROLE etl; CREATE TABLE etl.t (a int); INSERT INTO etl.t SELECT generate_series(1, 3)');
}
# No definition has it.  One that came here by another way is refused when it runs.
my $REFUSED = 'COPY FROM STDIN and COPY TO STDOUT are not possible in a step';
for my $i (0 .. $#copies)
{
    my $command = quote_literal($copies[$i]);
    $f->sql("SELECT fleet.create_job('copy$i')");
    $f->fails("SELECT fleet.add_step('copy$i', 's', $command)", '0A000', "not as a step: $copies[$i]", help => 1, like => 'a step cannot COPY from or to a client');
    $f->sql("SELECT fleet.add_step('copy$i', 's', 'SELECT 1'); UPDATE fleet_catalog.step SET command = $command, single = position(';' IN $command) = 0 WHERE job_id = (SELECT job_id FROM fleet_catalog.job WHERE name = 'copy$i')");
    $f->package("copy$i", map { ($_ => { job => "copy$i", server => $_ }) } qw(d1));
    $run = $f->start("copy$i");
    $f->wait_for('parent', "SELECT state, sqlstate, message FROM fleet.task_run WHERE run_id = $run AND finished_at IS NOT NULL", "failed|0A000|$REFUSED", "d1: refused when it runs: $copies[$i]");
}
is($f->sql_on("d1", "SELECT count(*) FROM etl.t"), "3", "d1: nothing of it stays");
$f->sql_on('d1', q{SET ROLE etl; CREATE FUNCTION etl.one() RETURNS int LANGUAGE sql AS 'SELECT 1'});
$f->job('one', 'SELECT etl.one()');
$f->package('one_d1', t => { job => 'one', server => 'd1' });
$f->run_is($f->start('one_d1'), 'succeeded', 'd1: the next job there is done');

$f->done(made => 1);
