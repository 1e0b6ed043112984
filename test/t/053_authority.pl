# Authority while it is used.  A link is open and something runs over it; what allowed it is taken away:
# the link is closed at once, what it runs ends as by the loss of its link, and nobody logs in with what
# does not hold any more.  Given back, what the server has kept goes on, once.  What only changes (a
# password) is used from then on, and what runs may end.  In both modes; who did what is the witness's word.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $pw = $FleetTest::PASSWORD;
my ($a1, $d1) = map { $f->node($_) } qw(a1 d1);

# alice has a password; mate is who else uses the same servers.
$f->sql(<<"SQL");
CREATE ROLE alice LOGIN; CREATE ROLE mate LOGIN; CREATE ROLE chief LOGIN SUPERUSER; CREATE ROLE other LOGIN;
GRANT USAGE ON FOREIGN SERVER a1, d1 TO alice, mate, chief;
SQL
my $mapping = "OPTIONS (user 'etl', password '$pw')";
for my $server (qw(a1 d1))
{
    $f->sql("CREATE USER MAPPING FOR alice SERVER $server $mapping; CREATE USER MAPPING FOR mate SERVER $server OPTIONS (user 'mate', password 'mate')");
    $f->sql_on($server, q{CREATE ROLE mate LOGIN PASSWORD 'mate'; GRANT USAGE ON SCHEMA etl TO PUBLIC; GRANT INSERT ON etl.effect TO PUBLIC});
}
sub define
{
    my ($role) = @_;
    my $sql = "SET ROLE $role; SELECT fleet.create_job('stay of $role', params => '{\"key\": null}');"
      . " SELECT fleet.add_step('stay of $role', 's', 'SELECT etl.work_until_released()');"
      . " SELECT * FROM fleet.deploy_job('stay of $role', server => 'a1');";
    for my $server (qw(a1 d1))
    {
        $sql .= " SELECT fleet.create_package('$server of $role', params => '{\"key\": null}');"
          . " SELECT fleet.add_task('$server of $role', 't', job => 'stay of $role', server => '$server');";
    }
    $f->sql($sql);
    $f->wait_for('parent', "SELECT state FROM fleet.deployment WHERE job = 'stay of $role'", 'deployed', "$role: the job is deployed");
    return;
}
define($_) for qw(alice mate);

sub begin
{
    my ($server, $role, $key) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $run = $f->sql("SET ROLE $role; SELECT fleet.run_parent_package('$server of $role', params => '{\"key\": \"$key\"}')");
    $f->wait_started($key);
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', "$key: it runs");
    return $run;
}
sub told { my ($run) = @_; return $f->sql("SELECT concat_ws('|', t.state, t.sqlstate, t.message) FROM fleet.task_run AS t WHERE t.run_id = $run"); }

# Sessions of links, as their server has them.
sub sessions { my ($user) = @_; return "FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet ________ %' AND usename = '$user'"; }
sub closed
{
    my ($server, $user, $n, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $f->wait_for($server, 'SELECT count(*) ' . sessions($user), $n, $name);
}

# ---- the ground goes ---------------------------------------------------------------------------

my $no_usage = 'role "alice" has no USAGE on foreign server "SERVER"';
my $no_mapping = 'role "alice" has no user mapping for foreign server "SERVER"';
my $no_password = 'the user mapping of role "alice" for foreign server "SERVER" has no password, which only superusers may do without';
my @grounds = (
    [ 'USAGE on the server', 'REVOKE USAGE ON FOREIGN SERVER SERVER FROM alice', 'GRANT USAGE ON FOREIGN SERVER SERVER TO alice', '42501', $no_usage ],
    [ 'the user mapping', 'DROP USER MAPPING FOR alice SERVER SERVER', 'CREATE USER MAPPING FOR alice SERVER SERVER MAPPING', '42704', $no_mapping ],
    [ 'its password', 'ALTER USER MAPPING FOR alice SERVER SERVER OPTIONS (DROP password)',
        "ALTER USER MAPPING FOR alice SERVER SERVER OPTIONS (ADD password '$pw')", '2F003', $no_password ]);
my $n = 0;
for my $ground (@grounds)
{
    my ($what, $take, $give, $sqlstate, $message) = @$ground;
    for my $server (qw(a1 d1))
    {
        my ($t, $g, $m) = map { s/MAPPING(?=\z)/$mapping/r =~ s/\bSERVER\b(?!\s+(?:SERVER|a1|d1|renamed)\b)/$server/gr } $take, $give, $message;
        my $key = "$server " . ++$n;
        my $run = begin($server, 'alice', $key);
        $f->sql($t);
        closed($server, 'etl', 0, "$server, $what is taken away while a job runs: the link is closed");
        if ($server eq 'd1')
        {
            $f->run_is($run, 'failed', "$server, $what: the step was cut off and may not begin again");
            is(told($run), "failed|$sqlstate|$m", "$server, $what: with the reason");
            is($f->witnessed($key, 'end') . $f->effects($server, $key), '00', "$server, $what: it had no effect");
            $f->sql($g);
            $f->release($key);
        }
        else
        {
            is(told($run), 'running', "$server, $what: the job goes on there, and nothing is said of it that is not known");
            like($f->sql("SELECT last_error FROM fleet.server_status WHERE server = '$server'"), qr/^\Q$m\E$/, "$server, $what: the server's row has the reason");
            $f->release($key);
            $f->wait_for($server, "SELECT count(*) FROM fleet.job_run WHERE finished_at IS NULL", '0', "$server, $what: it ends there");
            $f->sql($g);
            $f->run_is($run, 'succeeded', "$server, $what, given back: what it did there is known");
        }
        is($f->witnessed($key, 'start'), '1', "$server, $what: it began once");
        # It is of use again.
        $key .= ' again';
        $run = begin($server, 'alice', $key);
        $f->release($key);
        $f->run_is($run, 'succeeded', "$server, $what, given back: the next run");
    }
}

# Others are not touched by it: mate's run goes on over mate's link while alice's is closed.
for my $server (qw(a1 d1))
{
    my $mates = begin($server, 'mate', "mate $server");
    my $pids = $f->sql_on($server, 'SELECT pid ' . sessions('mate') . ' ORDER BY 1');
    my $run = begin($server, 'alice', "beside $server");
    $f->sql("REVOKE USAGE ON FOREIGN SERVER $server FROM alice");
    closed($server, 'etl', 0, "$server: the link of who has lost the right is closed");
    my @pids = split /\n/, $pids;
    is($f->sql_on($server, 'SELECT count(*) ' . sessions('mate') . ' AND pid IN (' . join(', ', @pids) . ')'), @pids, "$server: another role's link stays as it is");
    $f->release($_) for "mate $server", "beside $server";
    $f->run_is($mates, 'succeeded', "$server: what runs over it succeeds");
    $f->sql("GRANT USAGE ON FOREIGN SERVER $server TO alice");
    $f->run_is($run, $server eq 'a1' ? 'succeeded' : 'failed', "$server: the other one ends");
}

# What is never given back is lost in the end, with the reason; what the server keeps it does not tell.
$f->sql(q{ALTER SYSTEM SET fleet.lost_after = '2s'; SELECT pg_reload_conf()});
for my $case ([ 'DROP USER MAPPING FOR alice SERVER a1', "CREATE USER MAPPING FOR alice SERVER a1 $mapping", '42704', $no_mapping ],
    [ q{ALTER USER MAPPING FOR alice SERVER a1 OPTIONS (SET password 'wrong')}, "ALTER USER MAPPING FOR alice SERVER a1 OPTIONS (SET password '$pw')", '28P01', undef ])
{
    my ($take, $give, $sqlstate, $message) = @$case;
    my $key = "lost $sqlstate";
    my $mates = begin('a1', 'mate', "mate $key");
    my $run = begin('a1', 'alice', $key);
    $f->sql($take);
    $f->run_is($run, 'failed', "$key: not given back within fleet.lost_after");
    like(told($run), defined $message ? qr/^lost\|08006\|.*: \Q@{[$message =~ s{SERVER}{a1}r]}\E$/ : qr/^lost\|08006\|.*password authentication failed for user "etl"$/, "$key: lost, with the reason");
    is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $mates"), 'running', "$key: another role's run on that server goes on");
    $f->release($_) for $key, "mate $key";
    $f->run_is($mates, 'succeeded', "$key: and succeeds");
    $f->sql($give);
}
$f->sql(q{ALTER SYSTEM RESET fleet.lost_after; SELECT pg_reload_conf()});

# ---- a new agent finds no ground ---------------------------------------------------------------

# What has begun there is waited for: it is not failed, and nothing of it is begun again.
for my $ground (@grounds)
{
    my ($what, $take, $give) = @$ground;
    my ($t, $g) = map { s/MAPPING(?=\z)/$mapping/r =~ s/\bSERVER\b(?!\s+(?:SERVER|a1|d1|renamed)\b)/a1/gr } $take, $give;
    my $key = 'new agent ' . ++$n;
    my $run = begin('a1', 'alice', $key);
    $f->point('parent', 'agent_published', 'wait');
    my $agent = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($agent)");
    $f->point_waits('parent', 'agent_published', "$what: the next agent is about to look");
    $f->sql($t);
    $f->point_release('parent', 'agent_published');
    $f->wait_for('parent', q{SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = 'a1'}, 't', undef);
    $f->wait_for('a1', "SELECT count(*) " . sessions('etl'), '0', "$what: no link of that role is there");
    is(told($run), 'running', "$what is gone when an agent comes: the job that runs there is not failed");
    $f->release($key);
    $f->wait_for('a1', 'SELECT count(*) FROM fleet.job_run WHERE finished_at IS NULL', '0', "$what: it ends there");
    $f->sql($g);
    $f->run_is($run, 'succeeded', "$what, given back: what it did there is known");
    is($f->witnessed($key, 'start') . $f->effects('a1', $key), '11', "$what: it began once");
}

# ---- what only changes -------------------------------------------------------------------------

# A password is changed there and here while jobs run: they end where they are, and what begins uses the new one.
for my $server (qw(a1 d1))
{
    my $run = begin($server, 'alice', "rotated $server");
    my $pid = $f->sql_on($server, 'SELECT pid ' . sessions('etl'));
    $f->sql_on($server, q{ALTER ROLE etl PASSWORD 'rotated'});
    $f->sql(qq{ALTER USER MAPPING FOR alice SERVER $server OPTIONS (SET password 'rotated')});
    my $next = begin($server, 'alice', "after $server");
    if ($server eq 'a1')
    {
        $f->wait_for($server, "SELECT count(*) || ' ' || bool_or(pid = $pid) " . sessions('etl'), '1 false', "$server, a password is rotated: the link is a new one");
    }
    else
    {
        $f->wait_for($server, "SELECT count(*) || ' ' || bool_or(pid = $pid) " . sessions('etl'), '2 true', "$server, a password is rotated: what runs stays, what comes has a new session");
    }
    $f->release($_) for "rotated $server", "after $server";
    $f->run_is($run, 'succeeded', "$server: what ran during the rotation");
    $f->run_is($next, 'succeeded', "$server: what came after it");
    is($f->witnessed("rotated $server", 'start') . $f->effects($server, "rotated $server"), '11', "$server: it began once, and had its effect once");
    $f->wait_for($server, "SELECT count(*) " . sessions('etl') . " AND pid = $pid", '0', "$server: the session that knew the old password is closed");

    # The other way round: there first, and the link breaks.  The old one is refused, and not tried any more once the new one is here.
    $run = begin($server, 'alice', "late $server") if $server eq 'a1';
    $f->sql_on($server, "ALTER ROLE etl PASSWORD '$pw'; SELECT pg_terminate_backend(pid) " . sessions('etl'));
    if ($server eq 'a1')
    {
        $f->wait_for('parent', "SELECT last_error LIKE '%password authentication failed for user \"etl\"' FROM fleet.server_status WHERE server = 'a1'", 't', 'a1: the old password is refused');
        is(told($run), 'running', 'a1: the job is not failed by it');
    }
    $f->sql(qq{ALTER USER MAPPING FOR alice SERVER $server OPTIONS (SET password '$pw')});
    if ($server eq 'a1')
    {
        closed('a1', 'etl', 1, 'a1: with the new one the link is there again');
        $f->release("late $server");
        $f->run_is($run, 'succeeded', 'a1: and the job ends');
    }
}

# ---- who is a superuser ------------------------------------------------------------------------

# chief needs no password, over a socket where the server asks for none; as who owns the mapping's server he may
# waive it for alice.  Not any more from the moment in which he is none.
for my $server (qw(a1 d1))
{
    my $options = sprintf q{host %s, port '%d', dbname 'dw'}, FleetTest::quote_literal($f->node($server)->host), $f->node($server)->port;
    my $mode = $f->mode($server);
    $f->sql(qq{CREATE SERVER local_$server FOREIGN DATA WRAPPER pg_fleet OPTIONS ($options); ALTER SERVER local_$server OWNER TO chief; GRANT USAGE ON FOREIGN SERVER local_$server TO alice;
        CREATE USER MAPPING FOR chief SERVER local_$server OPTIONS (user 'postgres'); SET ROLE chief;
        SELECT fleet.register_server('local_$server', mode => '$mode')});
    if ($server eq 'a1')
    {
        $f->sql(q{SET ROLE chief; SELECT fleet.create_job('stay of chief', params => '{"key": null}'); SELECT fleet.add_step('stay of chief', 's', 'SELECT etl.work_until_released()');
            SELECT * FROM fleet.deploy_job('stay of chief', server => 'local_a1')});
        $f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'stay of chief'}, 'deployed', 'chief: the job is deployed');
    }
    $f->sql(qq{SET ROLE chief; SELECT fleet.create_package('$server of chief', params => '{"key": null}');
        SELECT fleet.add_task('$server of chief', 't', job => 'stay of chief', server => 'local_$server')});
    my $there = q{FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet ________ %' AND usename = 'postgres' AND client_addr IS NULL};
    my $run = begin($server, 'chief', "chief $server");
    $f->sql('ALTER ROLE chief NOSUPERUSER');
    $f->wait_for($server, "SELECT count(*) $there", '0', "$server: who is no superuser any more has no link without a password");
    $f->release("chief $server");
    my $why = qq{the user mapping of role "chief" for foreign server "local_$server" has no password, which only superusers may do without};
    $f->wait_for('parent', "SELECT last_error FROM fleet.server_status WHERE server = 'local_$server'", $why, "$server: the server's row has the reason");
    if ($server eq 'd1')
    {
        $f->run_is($run, 'failed', "$server: the step is cut off");
        is(told($run), "failed|2F003|$why", "$server: with the reason");
        is($f->effects($server, "chief $server"), '0', "$server: it had no effect");
    }
    $f->sql('ALTER ROLE chief SUPERUSER');
    $f->run_is($run, 'succeeded', "$server: a superuser again, he learns how it ended") if $server eq 'a1';
}

# chief has waived it for alice: that counts while a superuser owns the server, who else could point it elsewhere.
my $there = q{FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet ________ %' AND usename = 'postgres' AND client_addr IS NULL};
$f->sql(q{SET ROLE alice; SELECT fleet.create_package('waived a1', params => '{"key": null}'); SELECT fleet.create_package('waived d1', params => '{"key": null}');
    SELECT fleet.create_job('waived', params => '{"key": null}'); SELECT fleet.add_step('waived', 's', 'SELECT etl.work_until_released()')});
for my $server (qw(a1 d1))
{
    $f->sql("SET ROLE chief; CREATE USER MAPPING FOR alice SERVER local_$server OPTIONS (user 'postgres', password_required 'false')");
    $f->sql("SET ROLE alice; SELECT fleet.add_task('waived $server', 't', job => 'waived', server => 'local_$server')");
    if ($server eq 'a1')
    {
        $f->sql(q{SET ROLE alice; SELECT * FROM fleet.deploy_job('waived', server => 'local_a1')});
        $f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'waived'}, 'deployed', 'a password is waived: the job is deployed');
    }
    my $why = qq{the user mapping of role "alice" for foreign server "local_$server" has no password, which only superusers may do without};
    for my $way ([ 'the server has another owner', "ALTER SERVER local_$server OWNER TO other", "ALTER SERVER local_$server OWNER TO chief" ],
        [ 'its owner is no superuser any more', 'ALTER ROLE chief NOSUPERUSER', 'ALTER ROLE chief SUPERUSER' ])
    {
        my ($what, $take, $give) = @$way;
        my $key = "$server waived " . ++$n;
        my $run = $f->sql("SET ROLE alice; SELECT fleet.run_parent_package('waived $server', params => '{\"key\": \"$key\"}')");
        $f->wait_started($key);
        $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', "$key: it runs");
        $f->sql($take);
        $f->wait_for($server, "SELECT count(*) $there", '0', "$server, $what: a link without a password is closed");
        if ($server eq 'd1')
        {
            $f->run_is($run, 'failed', "$server, $what: the step is cut off");
            is(told($run), "failed|2F003|$why", "$server, $what: with the reason");
            $f->release($key);
        }
        my $refused = $f->sql("SET ROLE alice; SELECT fleet.run_parent_package('waived $server', params => '{\"key\": \"refused\"}')");
        $f->run_is($refused, 'failed', "$server, $what: nothing begins");
        is(told($refused), "failed|2F003|$why", "$server, $what: with the same reason");
        $f->sql($give);
        $f->release($key) if $server eq 'a1';
        $f->run_is($run, 'succeeded', "$server, $what, and then as before: what ran there is known") if $server eq 'a1';
        is($f->effects($server, $key), $server eq 'a1' ? '1' : '0', "$server, $what: what was cut off had no effect, what went on had one");
    }
}
is($f->witnessed('refused', 'start'), '0', 'nothing of what was refused has run');

# ---- the owner is dropped ----------------------------------------------------------------------

# While a job of his runs: as if all was taken from him at once, and nothing is given back.  Here, what he has begun may end.
$f->sql(q{ALTER SYSTEM SET fleet.lost_after = '2s'; SELECT pg_reload_conf(); GRANT USAGE ON SCHEMA etl TO PUBLIC; GRANT INSERT ON etl.effect TO PUBLIC});
for my $server (qw(a1 d1))
{
    my $role = "leaver_$server";
    $f->sql_on($server, "CREATE ROLE leaver LOGIN PASSWORD 'leaver'");
    $f->sql("CREATE ROLE $role LOGIN; GRANT USAGE ON FOREIGN SERVER a1, d1 TO $role");
    $f->sql("CREATE USER MAPPING FOR $role SERVER $server OPTIONS (user 'leaver', password 'leaver')");
    $f->sql("SET ROLE $role; SELECT fleet.create_job('stay of $role', params => '{\"key\": null}'); SELECT fleet.add_step('stay of $role', 's', 'SELECT etl.work_until_released()');"
          . "SELECT fleet.create_package('$server of $role', params => '{\"key\": null}'); SELECT fleet.add_task('$server of $role', 't', job => 'stay of $role', server => '$server');"
          . "SELECT fleet.create_package('here of $role'); SELECT fleet.add_task('here of $role', 't', sql => 'SELECT 1')");
    if ($server eq 'a1')
    {
        $f->sql("SET ROLE $role; SELECT * FROM fleet.deploy_job('stay of $role', server => 'a1')");
        $f->wait_for('parent', "SELECT state FROM fleet.deployment WHERE job = 'stay of $role'", 'deployed', "$role: the job is deployed");
    }
    my $run = begin($server, $role, "dropped $server");
    $f->sql("DROP OWNED BY $role; DROP ROLE $role");
    closed($server, 'leaver', 0, "$server: the owner of what runs is dropped: the link is closed");
    $f->run_is($run, 'failed', "$server: the run fails");
    like(told($run), $server eq 'a1' ? qr/^lost\|08006\|.*: the role that it belongs to no longer exists$/ : qr/^failed\|42704\|the role that it belongs to no longer exists$/, "$server: with the reason");
    $f->release("dropped $server");
    is($f->effects($server, "dropped $server"), '0', "$server: it had no effect") if $server eq 'd1';
    my $next = $f->sql("SELECT fleet.run_parent_package('here of $role')");
    $f->run_is($next, 'failed', "$server: nothing of his runs any more");
    is(told($next), 'failed|42704|the role that it belongs to no longer exists', "$server: with the reason");
}
$f->sql(q{ALTER SYSTEM RESET fleet.lost_after; SELECT pg_reload_conf()});

$f->done;
