# A server of the fleet is the foreign server that was registered, and not one that takes its name.  Renamed, it stays
# the server: runs go on, definitions follow.  Dropped, it has no successor but the one that its owner registers; what a
# task on it does and knows goes to nobody's server by a name alone.  In both modes.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $pw = $FleetTest::PASSWORD;

$f->sql(<<'SQL');
CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE keeper LOGIN;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO mallory, keeper;
GRANT USAGE ON SCHEMA etl TO PUBLIC; GRANT INSERT ON etl.effect TO PUBLIC;
SQL
for my $server (qw(a1 d1))
{
    $f->sql_on($server, q{CREATE ROLE mallory LOGIN PASSWORD 'mallory'; GRANT USAGE ON SCHEMA etl TO PUBLIC; GRANT INSERT ON etl.effect TO PUBLIC});
}

# keeper's servers, as add_server() makes them
sub keep
{
    my ($server, $to) = @_;
    my $conninfo = $f->conninfo($to);
    my $mode = $f->mode($to);
    return "SET ROLE keeper; SELECT fleet.add_server('$server', '$conninfo', username => 'etl', password => '$pw', mode => '$mode', groups => '{kept $mode}');"
      . " GRANT USAGE ON FOREIGN SERVER \"$server\" TO alice; CREATE USER MAPPING FOR alice SERVER \"$server\" OPTIONS (user 'etl', password '$pw'); RESET ROLE;";
}
my %name = (a1 => 'the agents', d1 => 'direct');
$f->sql(keep($name{$_}, $_)) for qw(a1 d1);
$f->sql(<<'SQL');
SET ROLE alice;
SELECT fleet.create_job('stay', params => '{"key": null}'); SELECT fleet.add_step('stay', 's', 'SELECT etl.work_until_released()');
SELECT fleet.create_job('work', params => '{"key": null}'); SELECT fleet.add_step('work', 's', 'SELECT etl.work()');
SELECT fleet.deploy_job('stay', server => 'the agents'), fleet.deploy_job('work', server => 'the agents');
SQL
$f->wait_for('parent', q{SELECT count(*) FROM fleet.deployment WHERE state = 'deployed'}, '2', 'the jobs are deployed');
for my $server (qw(a1 d1))
{
    my $name = $name{$server};
    my $mode = $f->mode($server);
    $f->sql("SET ROLE alice; SELECT fleet.create_package('on $server', params => '{\"key\": null}');"
          . "SELECT fleet.add_task('on $server', 'first', job => 'stay', server => '$name');"
          . "SELECT fleet.add_task('on $server', 'then', job => 'work', server => '$name', after => '{first}', params => '{\"key\": \"then on $server\"}');"
          . "SELECT fleet.create_package('among $server', params => '{\"key\": null, \"server\": \"$name\"}');"
          . "SELECT fleet.add_task('among $server', 't', job => 'work', on_group => 'kept $mode')");
}
sub begin { my ($package, $key) = @_; return $f->sql("SET ROLE alice; SELECT fleet.run_parent_package('$package', params => '{\"key\": \"$key\"}')"); }
sub begun
{
    my ($server, $key) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $run = begin("on $server", $key);
    $f->wait_started($key);
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 'first'", 'running', "$key: it runs");
    return $run;
}
sub servers { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || server, ', ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run"); }
sub rename_to { my ($old, $new) = @_; $f->sql("SET ROLE keeper; ALTER SERVER \"$old\" RENAME TO \"$new\"; RESET ROLE"); return; }

# ---- renamed -----------------------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    for my $ended (0, 1)
    {
        my $how = "$server, renamed" . ($ended ? ', and the agent ended' : '');
        my ($old, $new) = ($name{$server}, $name{$server} . ' "now"');
        my $key = "$how ";
        my $run = begun($server, $key);
        rename_to($old, $new =~ s/"/""/gr);
        is($f->sql("SELECT string_agg(DISTINCT server, ',') FROM fleet.task WHERE package = 'on $server'"), $new, "$how: tasks that name it follow");
        is($f->sql("SELECT server FROM fleet.server WHERE owner = 'keeper' AND mode = '" . $f->mode($server) . q{'}), $new, "$how: and the server");
        if ($ended)
        {
            my $pid = $f->agent_pid;
            $f->sql("SELECT pg_terminate_backend($pid)");
            $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', "$how: it is gone");
            $f->sql('SELECT count(*) FROM fleet.agent_status()');
        }
        is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 'first'"), 'running', "$how: what runs there runs");
        $f->release($key);
        $f->run_is($run, 'succeeded', "$how: a task of the run that had not begun finds it by the old name");
        is(servers($run), "first $new, then $new", "$how: rows have the new one");
        cmp_ok($f->effects($server, "then on $server"), '>', 0, "$how: it was done there");
        $run = begin("among $server", "$key again");
        $f->run_is($run, 'succeeded', "$how: the next run");
        is(servers($run), "t $new", "$how: is on it");
        rename_to($new =~ s/"/""/gr, $old);
    }
    is($f->sql('SELECT count(*) FROM fleet_catalog.server WHERE name = ANY (former_names)'), '0', "$server: no name is former and present");
}

# A name that open runs use by the old name is taken by nobody else; without them, it is free.
for my $server (qw(a1 d1))
{
    my $old = $name{$server};
    my $run = begun($server, "$server, taken");
    rename_to($old, 'moved');
    my $take = "SELECT fleet.add_server('$old', '" . $f->conninfo($server) . q{', username => 'mallory', password => 'mallory')};
    $f->fails($take, '42501', "$server: its former name is refused to others while a run is open", as => 'mallory', like => qr/permission denied for the server name "$old".*DETAIL:  It is the name of a server of role "keeper", and used\. By what belongs to others\..*HINT/s);
    is($f->sql("SELECT count(*) FROM pg_foreign_server WHERE srvname = '$old'"), '0', "$server: and nothing is left of it");
    $f->sql("SET ROLE mallory; CREATE SERVER mine FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '127.0.0.1'); SELECT fleet.register_server('mine'); RESET ROLE");
    $f->fails("ALTER SERVER mine RENAME TO \"$old\"", '42501', "$server: so is a change of name", as => 'mallory', like => qr/permission denied for the server name/);
    $f->release("$server, taken");
    $f->run_is($run, 'succeeded', "$server: the run ends where it was");
    $f->sql("SET ROLE mallory; ALTER SERVER mine RENAME TO \"$old\"; SELECT fleet.remove_server('$old'); DROP SERVER \"$old\"; RESET ROLE");
    pass("$server: after it the name is free");
    rename_to('moved', $old);
}

# ---- dropped, and another takes its name ----------------------------------------------------------

for my $server (qw(a1 d1))
{
    my $name = $name{$server};
    my $mode = $f->mode($server);
    my $id = $f->sql("SELECT server_id FROM fleet.server WHERE server = '$name'");
    $f->sql("DROP SERVER \"$name\" CASCADE");
    is($f->sql("SELECT server || ' ' || coalesce(wrapper, 'none') FROM fleet.server WHERE server_id = $id"), "$name none", "$server: dropped, it is there without a foreign server");
    $f->sql("SET ROLE mallory; CREATE SERVER \"$name\" FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '127.0.0.1', port '" . $f->port_of($server) . "', dbname 'dw');"
          . " CREATE USER MAPPING FOR PUBLIC SERVER \"$name\" OPTIONS (user 'mallory', password 'mallory'); GRANT USAGE ON FOREIGN SERVER \"$name\" TO PUBLIC; RESET ROLE");
    is($f->sql("SELECT coalesce(wrapper, 'none') FROM fleet.server WHERE server_id = $id"), 'none', "$server: another's of the same name is not it");
    my $run = begin("among $server", "$server, stolen");
    $f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run", "no server of group \"kept $mode\" can be used: foreign server \"$name\" no longer exists", "$server: a task of its group waits, and says for what");
    my $named = begin("on $server", "$server, stolen, named");
    $f->run_is($named, 'failed', "$server: a task that names it");
    is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $named AND task = 'first'"), "42704 foreign server \"$name\" no longer exists", "$server: says so");
    is($f->sql_on($server, q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'mallory'}), '0', "$server: nobody has connected to the other one");
    $f->fails("SELECT fleet.register_server('$name', mode => '$mode')", '42501', "$server: mallory does not register it", as => 'mallory', like => qr/permission denied for the server name/);
    # neither does an agent that comes believe the name
    my $pid = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run AND (SELECT count(*) FROM pg_stat_activity WHERE pid = $pid) = 0", "no server of group \"kept $mode\" can be used: foreign server \"$name\" no longer exists", "$server: the next agent says the same");
    $f->sql("DROP SERVER \"$name\" CASCADE");
    $f->sql(keep($name, $server));
    is($f->sql("SELECT server_id FROM fleet.server WHERE server = '$name'"), $id, "$server: its owner's takes its place");
    $f->sql('SELECT fleet.deploy_job(\'work\', server => \'the agents\')') if $mode eq 'agent';
    $f->run_is($run, 'succeeded', "$server: and what waited goes on");
    is(servers($run), "t $name", "$server: there");

    # its owner does not remove it as long as tasks of others use it
    my $remove = "SET ROLE keeper; DROP USER MAPPING FOR alice SERVER \"$name\"; SELECT fleet.remove_server('$name'); RESET ROLE;";
    $f->fails("SELECT fleet.remove_server('$name')", '2BP01', "$server: it is not removed while tasks of others use it", as => 'keeper', like => qr/DETAIL:  .*what belongs to others/);
    $f->sql("SET ROLE alice; SELECT fleet.drop_package('on $server'); RESET ROLE; $remove"
          . "SET ROLE mallory; SELECT fleet.add_server('$name', '" . $f->conninfo($server) . q{', username => 'mallory', password => 'mallory'); RESET ROLE});
    pass("$server: nobody uses it: it is free");
}

# ---- numbers ------------------------------------------------------------------------------------

# pg_upgrade keeps the numbers in our rows and gives foreign servers others; the parent is a copy, and paused.  That of one
# that had been dropped is not found again by its name.
$f->sql(q{SET ROLE keeper; CREATE SERVER lost FOREIGN DATA WRAPPER pg_fleet; SELECT fleet.register_server('lost'); DROP SERVER lost; RESET ROLE;
    CREATE SERVER lost FOREIGN DATA WRAPPER pg_fleet; UPDATE fleet_catalog.server SET foreign_server = (foreign_server::oid::bigint + 100000)::oid WHERE foreign_server <> 0::oid;
    UPDATE fleet_catalog.identity SET pg_major = 14, paused_reason = 'a test'});
is($f->sql(q{SELECT count(*) FROM fleet.server WHERE wrapper IS NULL}), '5', 'with other numbers no server has a foreign server');
$f->sql(q{SELECT fleet.confirm_identity('same')});
is($f->sql(q{SELECT string_agg(server || ' ' || coalesce(wrapper, 'none'), ', ' ORDER BY server) FROM fleet.server}), 'a1 pg_fleet, d1 pg_fleet, direct pg_fleet, lost none, the agents pg_fleet', 'after pg_upgrade they are found again, and no other');
# the same decision without an upgrade finds nothing by name
$f->sql(q{UPDATE fleet_catalog.server SET foreign_server = 4000000000::bigint::oid WHERE name = 'direct'; UPDATE fleet_catalog.identity SET paused_reason = 'a test'; SELECT fleet.confirm_identity('same')});
is($f->sql(q{SELECT coalesce(wrapper, 'none') FROM fleet.server WHERE server = 'direct'}), 'none', 'without pg_upgrade a name is no evidence');

# Servers that were renamed, and are gone, have the name in the history that they had in the end: each row is there once.
is($f->sql(q{SELECT (SELECT count(*) FROM fleet.task_run) - (SELECT count(*) FROM fleet_catalog.task_run) || ' ' || (SELECT count(*) FROM fleet.job_log) - (SELECT count(*) FROM fleet_catalog.step_run)}),
    '0 0', 'each task run and each step run is shown once');
$f->sql(q{SET ROLE keeper; CREATE SERVER first FOREIGN DATA WRAPPER pg_fleet; SELECT fleet.register_server('first'); ALTER SERVER first RENAME TO second; SELECT fleet.alter_server('second', slots => 2);
    ALTER SERVER second RENAME TO third; SELECT fleet.unregister_server('third')});
is($f->sql(q{SELECT string_agg(s.name, ' ') FROM fleet_catalog.server_name AS s JOIN fleet_catalog.former_server AS f USING (server_id) WHERE f.name = 'first'}), 'third', 'the last of three names');

$f->done;
