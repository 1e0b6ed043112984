# A cancel that is refused, or cannot be sent, is asked for again until it is confirmed, and the reason is shown meanwhile.
# "canceled" is said of what the server has stopped, and of nothing else.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1, delays => 0);

$f->job('hold', 'SELECT etl.work_until_released()');
$f->package("hold $_", -params => '{"key": null}', t => { job => 'hold', server => $_ }) for qw(a1 d1);

sub state_of { my ($run) = @_; return $f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"); }
sub last_error { my ($server, $like, $name) = @_; return $f->wait_for('parent', "SELECT last_error LIKE '$like' FROM fleet.server_status WHERE server = '$server'", 't', $name); }
# Sessions that execute something of ours on a cluster, whoever they are.
sub works { my ($node) = @_; return $f->sql_on($node, q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%work_until_released%'}); }

sub begin
{
    my ($server, $key) = @_;
    note "---- $key";
    my $run = $f->start("hold $server", qq({"key": "$key"}));
    $f->wait_started($key);
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', "$key: it runs");
    return $run;
}

sub stopped
{
    my ($run, $server, $key) = @_;
    $f->run_is($run, 'canceled', "$key: it is canceled");
    is(works($server), '0', "$key: … when nothing of it runs");
    is($f->witnessed($key, 'end') . $f->effects($server, $key), '00', "$key: it did not come to its end");
    return;
}

# ---- mode agent: the call is refused ------------------------------------------------------------

# The role may not call it for a while.
my $run = begin('a1', 'no right');
$f->sql_on('a1', 'REVOKE EXECUTE ON FUNCTION fleet_link.agent_cancel FROM PUBLIC');
$f->sql("SELECT fleet.cancel_run($run)");
last_error('a1', 'a cancel was refused: permission denied for function agent_cancel', 'no right: the refusal is shown');
is(state_of($run), 'canceling', 'no right: it is being canceled');
is($f->sql(q{SELECT state FROM fleet.server_status WHERE server = 'a1'}), 'online', 'no right: the server is not distrusted');
$f->sql_on('a1', 'GRANT EXECUTE ON FUNCTION fleet_link.agent_cancel TO PUBLIC');
stopped($run, 'a1', 'no right');

# An administrator cancels the call; a lock, a resource, a deadlock are all the same.
for my $sqlstate (qw(57014 40P01 53200 55P03))
{
    $run = begin('a1', $sqlstate);
    $f->sql_on('a1', qq{CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''$sqlstate'', MESSAGE = ''refused by $sqlstate''; END';
        CREATE TRIGGER refuse BEFORE INSERT ON fleet_catalog.cancel_request FOR EACH STATEMENT EXECUTE FUNCTION public.refuse()});
    $f->sql("SELECT fleet.cancel_run($run)");
    last_error('a1', "a cancel was refused: refused by $sqlstate", "$sqlstate: the refusal is shown");
    is(state_of($run) . works('a1'), 'canceling1', "$sqlstate: it runs on");
    $f->sql_on('a1', 'DROP TRIGGER refuse ON fleet_catalog.cancel_request; DROP FUNCTION public.refuse()');
    stopped($run, 'a1', $sqlstate);
}

# ---- a second cancel ----------------------------------------------------------------------------

# The first one is lost at the server: its agent took the message for nothing.
$run = begin('a1', 'lost there');
$f->sql_on('a1', q{CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER lose BEFORE INSERT ON fleet_catalog.cancel_request FOR EACH ROW EXECUTE FUNCTION public.lose()});
$f->sql("SELECT fleet.cancel_run($run)");
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'canceling', 'lost there: it is being canceled');
$f->wait_for('a1', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'etl' AND state = 'idle' AND query LIKE '%agent_cancel%'}, '1', 'lost there: the server has answered');
is(works('a1'), '1', 'lost there: it runs on');
$f->sql_on('a1', 'DROP TRIGGER lose ON fleet_catalog.cancel_request; DROP FUNCTION public.lose()');
is($f->sql("SELECT fleet.cancel_run($run)"), 't', 'lost there: it is canceled again');
stopped($run, 'a1', 'lost there');

# ---- mode direct: the connection for it is refused ----------------------------------------------

my $hba = $f->node('d1')->data_dir . '/pg_hba.conf';
my $text = PostgreSQL::Test::Utils::slurp_file($hba);
sub hba { my ($to) = @_; open my $file, '>', $hba or die $!; print {$file} $to; close $file; $f->sql_on('d1', 'SELECT pg_reload_conf()'); return; }
my @refused = (
    [ 'role limit', 'too many connections for role "etl"', sub { $f->sql_on('d1', 'ALTER ROLE etl CONNECTION LIMIT 0') }, sub { $f->sql_on('d1', 'ALTER ROLE etl CONNECTION LIMIT -1') } ],
    [ 'database limit', 'too many connections for database "dw"', sub { $f->sql_on('d1', 'ALTER DATABASE dw CONNECTION LIMIT 0') }, sub { $f->sql_on('d1', 'ALTER DATABASE dw CONNECTION LIMIT -1') } ],
    [ 'pg_hba', 'pg_hba.conf rejects connection', sub { hba("host all etl 127.0.0.1/32 reject\n$text") }, sub { hba($text) } ],
);
for my $case (@refused)
{
    my ($key, $why, $refuse, $allow) = @$case;
    $run = begin('d1', $key);
    # the connection for it may be there still
    $f->sql_on('d1', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'etl' AND state = 'idle'});
    $refuse->();
    $f->sql("SELECT fleet.cancel_run($run)");
    last_error('d1', "a cancel cannot be sent: %$why%", "$key: the reason is shown");
    is(state_of($run) . works('d1'), 'canceling1', "$key: it runs on, and is not called canceled");
    $allow->();
    stopped($run, 'd1', $key);
}

# The session is lost while the server refuses us: whether it still runs there is for the server to tell.
$run = begin('d1', 'lost and refused');
hba("host all etl 127.0.0.1/32 reject\n$text");
$f->sql(q{UPDATE fleet_catalog.server_health SET last_error = NULL});
$f->proxy->ctl('kill', 'd1');
$f->sql("SELECT fleet.cancel_run($run)");
last_error('d1', '%pg_hba.conf rejects connection%', 'lost and refused: the server refuses us');
$f->package('noop', t => { sql => 'SELECT 1' });
$f->run_is($f->start('noop'), 'succeeded', 'lost and refused: the agent has turned since');
is(state_of($run), 'canceling', 'lost and refused: it is not called canceled');
hba($text);
stopped($run, 'd1', 'lost and refused');

# What is asked for in vain for as long as a lost server is waited for is lost, and says why.
$run = begin('d1', 'refused for good');
$f->sql(q{ALTER SYSTEM SET fleet.lost_after = '3s'});
$f->sql(q{SELECT pg_reload_conf()});
hba("host all etl 127.0.0.1/32 reject\n$text");
$f->proxy->ctl('kill', 'd1');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'failed', 'refused for good: the run ends');
like($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"), qr/^lost 08006 .*pg_hba.conf rejects connection/, 'refused for good: its task is lost, and says why');
hba($text);
$f->release('refused for good');

$f->done;
