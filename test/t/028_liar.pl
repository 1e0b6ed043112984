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
    my $run = $f->sql_as('other', q{SELECT fleet.run_parent_package('line')});
    $f->run_is($run, 'succeeded', "$name: another role's run succeeds meanwhile");
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

my $servers = 0;

sub server
{
    my ($mode, $password) = @_;
    my $name = 'fake' . ++$servers;
    $f->sql(sprintf q{SELECT fleet.add_server(%s, %s, username => 'etl', password => %s, mode => %s, slots => 1)},
        quote_literal($name), quote_literal($fake->conninfo), quote_literal($password), quote_literal($mode));
    return $name;
}

sub task
{
    my ($server, %job) = @_;
    my $name = "job_$server";
    my $sql = 'SELECT fleet.create_job(' . quote_literal($name) . '); SELECT fleet.add_step(' . join(', ', quote_literal($name), "'s'",
        map { "$_ => " . quote_literal($job{$_}) } sort keys %job) . ')';
    $f->sql($sql);
    $f->package("package_$server", t => { job => $name, server => $server });
    return $f->start("package_$server");
}

sub last_error { my ($server) = @_; return "SELECT last_error FROM fleet.server_status WHERE server = " . quote_literal($server); }

sub cancel
{
    my ($run, $server, $name) = @_;
    $f->sql("SELECT fleet.cancel_run($run)");
    $f->run_is($run, 'canceled', "$name: canceled");
    $f->sql('SELECT fleet.set_server_state(' . quote_literal($server) . ", 'offline')");
    return;
}

# ---- a login error that contains the password ---------------------------------------------------

my $long = 'x' x 690;
my @secrets = (
    # password, what the server says, what is kept of it
    [ '***',       'no ***{password} and {password}!',           'no ****** and ***!' ],
    [ '*******',   '{password}{password}{password}*',            '*' x 22 ],
    [ 'aba',       'x ababa y abababa aba z',                    'x ***** y ******* *** z' ],
    [ 'aa1',       'aa1 ' x 100,                                 '*** ' x 99 . '***' ],
    [ 'a',         'password "a" of a man was bad: a',           'password "*" of * man was bad: *' ],
    [ 'xy',        'xy or "xy", xyz and axy_ yx',                '** or "**", xyz and axy_ yx' ],
    [ 'käse€',     'no käse€käse€, käse',                        'no ' . '*' x 18 . ', käse' ],
    [ q{p'q"r\s},  q{raw p'q"r\s, conninfo p\\'q"r\\\\s, json p'q\\"r\\\\s, sql p''q"r\s.},
      'raw *******, conninfo *********, json *********, sql ********.' ],
    [ 'p@s/w%',    'p@s/w% p%40s%2Fw%25 p%40s%2fw%25 p%40s',     '****** ************ ************ p%40s' ],
    [ '28P01',     'code 28P01',                                 'code *****' ],
    [ 'secret-at-the-cut', "$long secret-at-the-cut",            "$long *********" ],
);
$fake->ctl(auth => 'cleartext');
for my $case (@secrets)
{
    my ($password, $says, $kept) = @$case;
    utf8::encode(my $shown = $password);
    utf8::encode($password);
    utf8::encode($kept);
    $fake->rules([ on => '^password', send => [ [ 'fatal', '28P01', $says ] ] ]);
    my $server = server('direct', $password);
    my $run = task($server, command => 'SELECT 1');
    my $name = length $shown > 12 ? substr($shown, 0, 12) : $shown;
    $f->wait_for('parent', last_error($server), "FATAL:  $kept", "password $name: covered in the reason");
    is($fake->fired >= 1, 1, "password $name: the server was told it");
    others_go_on("password $name");
    cancel($run, $server, "password $name");
}
is($f->sql(q{SELECT count(*) FROM fleet.log WHERE message LIKE '%secret-at%' OR message LIKE '%käse€%'}), '0', 'no password is in the log of a run');
unlike(slurp_file($f->parent->logfile), qr/secret-at-the-cut|\Q"aba"\E/, 'nor in the log of the server');
# none at all: nothing is covered, and nothing hangs
$fake->ctl(auth => 'trust');
$fake->rules([ on => '^login', send => [ [ 'fatal', '28P01', 'no *** and nothing' ] ] ]);
my $none = server('direct', undef);
my $none_run = task($none, command => 'SELECT 1');
$f->wait_for('parent', last_error($none), 'FATAL:  no *** and nothing', 'no password: the reason as it is');
cancel($none_run, $none, 'no password');
# the error that ended the loop for ever, once more, and SIGTERM
$fake->ctl(auth => 'cleartext');
$fake->rules([ on => '^password', send => [ [ 'fatal', '28P01', 'no ***' ] ] ]);
my $stars = server('agent', '***');
my $stars_run = task($stars, command => 'SELECT 1');
$f->wait_for('parent', last_error($stars), 'FATAL:  no ***', 'password ***, mode agent: the reason');
term_is_heard('password ***');
cancel($stars_run, $stars, 'password ***, mode agent');

# after the login, in the last words of a session
$fake->rules([ on => '^execute SELECT pg_catalog.pg_backend_pid', send => [ [ 'fatal', '57P01', 'it was {password}' ] ] ]);
my $words = server('direct', 'last-words');
my $words_run = task($words, command => 'SELECT 1');
$f->wait_for('parent', last_error($words), 'it was **********', 'last words of a session: covered');
cancel($words_run, $words, 'last words');
# … of an error to the hello
$fake->rules([ on => 'agent_hello', send => [ [ 'error', '42501', 'you are {password}' ] ] ]);
$words = server('agent', 'hello-words');
$words_run = task($words, command => 'SELECT 1');
$f->wait_for('parent', last_error($words), 'you are ***********', 'an error to the hello: covered');
cancel($words_run, $words, 'hello');

# ---- a copy that nobody asked for ---------------------------------------------------------------

$fake->ctl(auth => 'trust');
my $COPY = 'the server wants to copy, which nobody asked for';

for my $kind (qw(copyin copyout copyboth))
{
    for my $case (
        [ 'direct', 'the first question',  '^execute SELECT pg_catalog.pg_backend_pid' ],
        [ 'direct', 'the sweep',           '^execute SELECT pg_catalog.pg_terminate_backend' ],
        [ 'agent',  'the search path',     '^execute SELECT pg_catalog.set_config' ],
        [ 'agent',  'the hello',           '^execute SELECT \* FROM fleet.agent_hello' ],
        [ 'agent',  'LISTEN',              '^execute LISTEN' ],
        [ 'agent',  'a start',             '^execute SELECT \* FROM fleet.agent_start' ])
    {
        my ($mode, $what, $on) = @$case;
        $fake->rules([ on => $on, send => [$kind] ]);
        my $server = server($mode, undef);
        my $run = task($server, command => 'SELECT 1');
        $f->wait_for('parent', last_error($server), $COPY, "$kind to $what, mode $mode: the link's reason");
        others_go_on("$kind to $what");
        cancel($run, $server, "$kind to $what");
    }

    # a command: it fails, and is not done again
    my %command = ('one statement' => { command => 'SELECT 7' },
        'not a transaction' => { command => 'VACUUM', transactional => 'false' },
        'several statements' => { command => 'SELECT 7; SELECT 8' });
    for my $what (sort keys %command)
    {
        $fake->rules([ on => '^(?:execute|query) (?:SELECT 7|VACUUM)', send => [ $kind, $kind ] ]);
        my $server = server('direct', undef);
        my $run = task($server, %{ $command{$what} });
        $f->run_is($run, 'failed', "$kind to $what: the run fails");
        is($f->sql("SELECT state, sqlstate, message FROM fleet.task_run WHERE run_id = $run"), "failed|08P01|$COPY", "$kind to $what: with the reason");
        is($f->sql("SELECT state, sqlstate, attempt FROM fleet.job_log WHERE run_id = $run"), 'failed|08P01|1', "$kind to $what: the step once");
        is($fake->fired, 1, "$kind to $what: it was sent once");
        others_go_on("$kind to $what");
        $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
    }

    # once, to what surrounds a command: the session is lost, and everything ends well by the next one
    for my $on ('^execute BEGIN', '^execute SELECT pg_catalog.set_config', '^execute COMMIT')
    {
        $fake->rules([ on => $on, send => [$kind], count => 1 ], [ on => '^execute SELECT 7', send => [ [ 'complete', 'SELECT 1' ] ] ]);
        my $server = server('direct', undef);
        my $run = task($server, command => 'SELECT 7');
        $f->run_is($run, 'succeeded', "$kind once to $on: the run succeeds");
        is($fake->fired(0), 1, "$kind once to $on: it was sent");
        is($fake->fired(1), $on =~ /COMMIT/ ? 2 : 1, "$kind once to $on: the command was executed as often as is right");
        $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
    }

    # to the second connection: what became of the transaction?
    $fake->rules(
        [ on => '^execute COMMIT', send => ['close'], count => 1 ],
        [ on => 'pg_xact_status', send => [$kind], count => 1 ],
        [ on => '^execute SELECT 7', send => [ [ 'complete', 'SELECT 1' ] ] ]);
    my $server = server('direct', undef);
    my $run = task($server, command => 'SELECT 7');
    $f->run_is($run, 'succeeded', "$kind to a question about a transaction: the run succeeds");
    is("@{ $fake->stats->{fired} }", '1 1 2', "$kind to a question about a transaction: it is asked again, and told that it was rolled back");
    $f->sql("SELECT fleet.set_server_state('$server', 'offline')");

    # … a cancel, a look whether it is still at work
    $fake->rules(
        [ on => '^execute SELECT 7', send => [] ],
        [ on => 'pg_cancel_backend', send => [$kind] ],
        [ on => 'SELECT state FROM pg_catalog.pg_stat_activity', send => [$kind] ]);
    $server = server('direct', undef);
    $run = task($server, command => 'SELECT 7');
    my $end = time + $FleetTest::PATIENCE;
    select undef, undef, undef, 0.02 until $fake->fired(0) || time > $end;
    $f->sql("SELECT fleet.cancel_run($run)");
    select undef, undef, undef, 0.02 until $fake->fired(1) || time > $end;
    is($fake->fired(1) >= 1, 1, "$kind to a cancel: it was sent");
    others_go_on("$kind to a cancel");
    if ($kind eq 'copyout')
    {
        select undef, undef, undef, 0.05 until $fake->fired(2) || time > $end;
        is($fake->fired(2) >= 1, 1, "$kind to a look at the session: it was sent");
        others_go_on("$kind to a look at the session");
    }
    term_is_heard("$kind to a cancel");
    $fake->rules();
    $fake->ctl(cut => JSON::PP::true);
    $f->run_is($run, 'canceled', "$kind to a cancel: the run ends as it was asked to");
    $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
}

# ---- input without an end -----------------------------------------------------------------------

# answers after answers that nobody asked for, rows of a copy, notices
for my $case ([ 'copy data', 'copyout', [ 'times', 200000, [ 'copydata', 'x' x 20 ] ] ],
    [ 'results', [ 'times', 100000, [ 'complete', 'SELECT 1' ] ] ],
    [ 'copies', [ 'times', 100000, 'copyout' ] ])
{
    my ($name, @send) = @$case;
    $fake->rules([ on => '^query VACUUM', send => \@send, count => 1 ]);
    my $server = server('direct', undef);
    my $run = task($server, command => 'VACUUM -- copy', transactional => 'false');
    my $end = time + $FleetTest::PATIENCE;
    select undef, undef, undef, 0.02 until $fake->fired(0) || time > $end;
    others_go_on("endless $name");
    $f->sql("SELECT fleet.cancel_run($run)");
    $fake->ctl(cut => JSON::PP::true);
    like($f->wait_run($run), qr/^(?:canceled|failed)$/, "endless $name: the run ends");
    $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
}

# ---- COPY as a step ------------------------------------------------------------------------------

$f->sql_on($_, 'SET ROLE etl; CREATE TABLE etl.t (a int); INSERT INTO etl.t SELECT generate_series(1, 3)') for qw(parent d1);
my $REFUSED = 'COPY FROM STDIN and COPY TO STDOUT are not possible in a step';
my @copies = (
    'COPY etl.t FROM STDIN',
    'COPY etl.t TO STDOUT',
    'copy (SELECT i, repeat(\'x\', 100) FROM generate_series(1, 1000000) AS i) to stdout',
    "/* c */ COPY etl.t FROM STDIN",
    "-- c\n COPY etl.t TO STDOUT",
    'INSERT INTO etl.t VALUES (4); COPY etl.t FROM STDIN',
    'COPY etl.t TO STDOUT; COPY etl.t TO STDOUT; COPY etl.t FROM STDIN; COPY etl.t FROM STDIN',
);
for my $i (0 .. $#copies)
{
    $f->job("copy$i", $copies[$i]);
    $f->package("copy_d1_$i", t => { job => "copy$i", server => 'd1' });
    $f->package("copy_here_$i", t => { sql => $copies[$i] });
    for my $where (qw(d1 here))
    {
        my $run = $f->start("copy_${where}_$i");
        $f->run_is($run, 'failed', "$where: $copies[$i]: refused");
        is($f->sql("SELECT sqlstate, message FROM fleet.task_run WHERE run_id = $run"), "0A000|$REFUSED", "$where: $copies[$i]: with what to do instead");
    }
}
is($f->sql_on($_, 'SELECT count(*) FROM etl.t'), '3', "$_: nothing of it stays") for qw(parent d1);
$f->sql_on('d1', q{SET ROLE etl; CREATE FUNCTION etl.one() RETURNS int LANGUAGE sql AS 'SELECT 1'});
$f->job('one', 'SELECT etl.one()');
$f->package('one_d1', t => { job => 'one', server => 'd1' });
$f->run_is($f->start('one_d1'), 'succeeded', 'd1: the next job there is done');

$f->done;
