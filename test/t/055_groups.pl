# Groups of servers.  A group belongs to who used its name first, and nobody else puts servers into it: what a
# task on a group does and knows goes to nobody's server by a name alone.  Of the servers of a group, a run uses
# those that its owner may use; if there is none it waits, and says what is missing.  In both modes.
use strict;
use warnings;
use FleetTest 'quote_literal';
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $pw = $FleetTest::PASSWORD;
my $wall = q{DETAIL:  It belongs to role "alice".*HINT:  Ask a member of that role};

# alice owns the work; mallory may make servers, as USAGE on the wrapper gives it; both clusters are reached by two servers each.
$f->sql(<<"SQL");
CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN; CREATE ROLE team; CREATE ROLE bob LOGIN; GRANT team TO bob; CREATE ROLE operator LOGIN; GRANT fleet_operator TO operator;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO mallory, alice, bob;
GRANT USAGE ON SCHEMA etl TO alice; GRANT INSERT ON etl.effect TO alice;
SQL
for my $server (qw(a1 d1))
{
    $f->sql("CREATE SERVER ${server}b FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '127.0.0.1', port '" . $f->node($server)->port . "', dbname 'dw');"
          . "SELECT fleet.register_server('${server}b', mode => '" . $f->mode($server) . "');"
          . "GRANT USAGE ON FOREIGN SERVER $server TO alice; CREATE USER MAPPING FOR alice SERVER $server OPTIONS (user 'etl', password '$pw')");
}
my %group = (a1 => 'agents only', d1 => 'direct only');
$f->sql("SELECT fleet.create_group('$_', owner => 'alice')") for values %group;
for my $server (qw(a1 d1))
{
    $f->sql("SELECT fleet.alter_server('$_', groups => ARRAY['$group{$server}']) ") for $server, "${server}b";
}
$f->sql(<<'SQL');
SET ROLE alice;
SELECT fleet.create_job('work', params => '{"key": null, "secret": "canary"}'); SELECT fleet.add_step('work', 's', 'SELECT etl.work()');
SELECT * FROM fleet.deploy_job('work', server => 'a1');
SQL
$f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'work'}, 'deployed', 'the job is deployed');
for my $server (qw(a1 d1))
{
    $f->sql("SET ROLE alice; SELECT fleet.create_package('on $server', params => '{\"key\": null}');"
          . "SELECT fleet.add_task('on $server', 't', job => 'work', on_group => '$group{$server}', balance => 'round_robin', for_each => 'SELECT jsonb_build_object(''i'', i) FROM generate_series(1, 6) AS i');"
          . "SELECT fleet.create_package('one on $server', params => '{\"key\": null}');"
          . "SELECT fleet.add_task('one on $server', 't', job => 'work', on_group => '$group{$server}')");
}
sub begin { my ($package, $key) = @_; return $f->sql("SET ROLE alice; SELECT fleet.run_parent_package('$package', params => '{\"key\": \"$key\"}')"); }
sub where
{
    my ($run) = @_;
    return $f->sql("SELECT string_agg(server || ' ' || n, ', ' ORDER BY server) FROM (SELECT server, count(*) AS n FROM fleet.task_run WHERE run_id = $run AND server IS NOT NULL GROUP BY 1) AS x");
}

# ---- servers that the owner may not use are passed over ----------------------------------------

my $usage = [ 'GRANT USAGE ON FOREIGN SERVER SERVER TO alice', 'REVOKE USAGE ON FOREIGN SERVER SERVER FROM alice', 'role "alice" has no USAGE on foreign server "SERVER"' ];
my $mapping = [ "CREATE USER MAPPING FOR alice SERVER SERVER OPTIONS (user 'etl', password '$pw')", 'DROP USER MAPPING FOR alice SERVER SERVER', 'role "alice" has no user mapping for foreign server "SERVER"' ];
my $password = [ "ALTER USER MAPPING FOR alice SERVER SERVER OPTIONS (ADD password '$pw')", 'ALTER USER MAPPING FOR alice SERVER SERVER OPTIONS (DROP password)',
    'the user mapping of role "alice" for foreign server "SERVER" has no password, which only superusers may do without' ];
my $n = 0;
for my $server (qw(a1 d1))
{
    my $other = "${server}b";
    my $sql = sub { my ($what, $s) = @_; (my $text = $what) =~ s/SERVER SERVER/SERVER $s/; $text =~ s/"SERVER"/"$s"/; return $text; };
    # there is neither USAGE nor a mapping on the other one
    my $run = begin("on $server", 'none of ' . ++$n);
    $f->run_is($run, 'succeeded', "$server: a server without USAGE and mapping is in the group");
    is(where($run), "$server 6", "$server: it is passed over");
    $f->sql($sql->($usage->[0], $other));
    $run = begin("on $server", 'usage ' . $n);
    $f->run_is($run, 'succeeded', "$server: with USAGE, without a mapping");
    is(where($run), "$server 6", "$server: it is passed over too");
    $f->sql($sql->($mapping->[0], $other));
    $run = begin("on $server", 'both ' . $n);
    $f->run_is($run, 'succeeded', "$server: with both");
    is(where($run), "$server 3, $other 3", "$server: it is used");

    # a right that is taken away while the run waits for none of it
    for my $right ($usage, $mapping, $password)
    {
        my ($grant, $revoke, $why) = @$right;
        $f->sql($sql->($revoke, $server));
        $run = begin("on $server", "one less $n");
        $f->run_is($run, 'succeeded', "$server: $why");
        is(where($run), "$other 6", "$server: the other one is used");
        $f->sql($sql->($revoke, $other));
        # none is left: it waits, says why, and begins by itself
        my $missing = qq{no server of group "$group{$server}" can be used: } . join '; ', map { $sql->($why, $_) } $server, $other;
        for my $package ("one on $server", "on $server")
        {
            my $key = "$package waits " . ++$n;
            $run = begin($package, $key);
            $f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run AND item = 0", $missing, "$package: it waits, and says for what");
            is($f->sql("SELECT string_agg(DISTINCT state, ' ') FROM fleet.task_run WHERE run_id = $run AND (item > 0 OR task IS NULL OR '$package' LIKE 'one%')"), 'queued', "$package: nothing of it has begun")
              if $package =~ /^one/;
            is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', "$package: the run has not failed");
            $f->sql($sql->($grant, $other));
            $f->run_is($run, 'succeeded', "$package: once that is granted it goes on");
            is($f->sql("SELECT string_agg(DISTINCT waiting_for, ' ') FROM fleet.task_run WHERE run_id = $run"), '', "$package: and waits for nothing");
            $f->sql($sql->($revoke, $other));
        }
        # what waits can be canceled
        $run = begin("one on $server", "canceled $n");
        $f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run", $missing, undef);
        $f->sql("SET ROLE alice; SELECT fleet.cancel_run($run)");
        $f->run_is($run, 'canceled', "$server: what waits can be canceled");
        $f->sql($sql->($grant, $_)) for $server, $other;
    }
}

# One that waits when an agent ends waits on under the next one, and says so.
$f->sql('REVOKE USAGE ON FOREIGN SERVER d1, d1b FROM alice');
my $missing = q{no server of group "direct only" can be used: role "alice" has no USAGE on foreign server "d1"; role "alice" has no USAGE on foreign server "d1b"};
my $run = begin('one on d1', 'new agent');
$f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run", $missing, 'it waits');
my $agent = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', "SELECT pid <> $agent AND running FROM fleet.agent_status()", 't', 'the agent is another one');
$f->sql('GRANT USAGE ON FOREIGN SERVER d1b TO alice');
$f->run_is($run, 'succeeded', 'granted after the end of an agent: it goes on');
is(where($run), 'd1b 1', 'on the one that may be used');
$f->sql('GRANT USAGE ON FOREIGN SERVER d1 TO alice');

# Another owner's run is not hindered by what alice lacks, though it is of the same package's content.
$f->sql(<<"SQL");
REVOKE USAGE ON FOREIGN SERVER a1, a1b, d1, d1b FROM alice; GRANT USAGE ON FOREIGN SERVER a1, d1 TO bob;
CREATE USER MAPPING FOR bob SERVER a1 OPTIONS (user 'etl', password '$pw'); CREATE USER MAPPING FOR bob SERVER d1 OPTIONS (user 'etl', password '$pw');
SQL
my $hers = begin('one on a1', 'hers');
$f->wait_for('parent', "SELECT waiting_for IS NOT NULL FROM fleet.task_run WHERE run_id = $hers", 't', 'alice waits');
$f->sql(q{SET ROLE bob; SELECT fleet.create_package('of bob', params => '{"key": null}'); SELECT fleet.add_task('of bob', 't', job => 'work', on_group => 'agents only')});
$run = $f->sql(q{SET ROLE bob; SELECT fleet.run_parent_package('of bob', params => '{"key": "his"}')});
$f->run_is($run, 'succeeded', 'bob, who has the rights, does not');
$f->sql('GRANT USAGE ON FOREIGN SERVER a1, a1b, d1, d1b TO alice');
$f->run_is($hers, 'succeeded', 'alice neither, once she has them');

# ---- deploy_job on a group ---------------------------------------------------------------------

$f->sql('DROP USER MAPPING FOR alice SERVER a1b');
my ($rc, $out, $err) = $f->try_as('alice', q{SELECT * FROM fleet.deploy_job('work', on_group => 'agents only')});
is($out, "a1|queued\na1b|skipped", 'deploy_job: a server that cannot be used is skipped');
like($err, qr/NOTICE:.*skipping a server of group "agents only".*DETAIL:  role "alice" has no user mapping for foreign server "a1b"/s, '… and why');
$f->wait_for('parent', q{SELECT string_agg(server || ' ' || state, ', ') FROM fleet.deployment WHERE job = 'work'}, 'a1 deployed', 'deploy_job: the others have it');
$f->sql('REVOKE USAGE ON FOREIGN SERVER a1 FROM alice');
$f->fails(q{SET ROLE alice; SELECT * FROM fleet.deploy_job('work', on_group => 'agents only')}, '42501', 'deploy_job: none is left',
    like => qr/no server of group "agents only" can be used.*DETAIL:  role "alice" has no USAGE on foreign server "a1"\s+role "alice" has no user mapping for foreign server "a1b"/s);
$f->sql("GRANT USAGE ON FOREIGN SERVER a1 TO alice; CREATE USER MAPPING FOR alice SERVER a1b OPTIONS (user 'etl', password '$pw')");

# ---- who puts servers into a group -------------------------------------------------------------

# mallory's server takes whoever comes: USAGE and a mapping for all.  Into alice's groups it does not come.
$f->node('witness')->safe_psql('postgres', q{CREATE ROLE trap LOGIN PASSWORD 'trap'; CREATE DATABASE trap});
my $trap = sprintf 'host=127.0.0.1 port=%d dbname=trap', $f->node('witness')->port;
my $add = "SET ROLE mallory; SELECT fleet.add_server('trap', '$trap', username => 'trap', password => 'trap', mode => 'direct'";
$f->fails("$add, groups => ARRAY['$_'])", '42501', "mallory's server does not come into group $_", like => qr/permission denied for group "$_".*$wall/s) for values %group;
is($f->sql(q{SELECT count(*) FROM pg_foreign_server WHERE srvname = 'trap'}), '0', '… and is not there');
$f->sql("$add)");
$f->sql(q{SET ROLE mallory; GRANT USAGE ON FOREIGN SERVER trap TO PUBLIC; CREATE USER MAPPING FOR PUBLIC SERVER trap OPTIONS (user 'trap', password 'trap')});
$f->fails(q{SET ROLE mallory; SELECT fleet.alter_server('trap', groups => '{own,direct only}')}, '42501', 'nor by alter_server', like => qr/permission denied for group "direct only".*$wall/s);
$f->fails(q{SET ROLE mallory; SELECT fleet.alter_group('direct only', 'mallory')}, '42501', 'nor does he take the group', like => qr/permission denied for group "direct only".*$wall/s);
$f->fails(q{SET ROLE mallory; SELECT fleet.drop_group('direct only')}, '42501', 'nor drop it', like => qr/permission denied for group "direct only".*$wall/s);
$f->fails(q{SET ROLE operator; SELECT fleet.alter_group('direct only', 'operator')}, '42501', 'an operator neither', like => qr/permission denied for group "direct only".*$wall/s);
$f->fails(q{SET ROLE operator; SELECT fleet.alter_server('trap', groups => '{direct only}')}, '42501', 'an operator, who may change every server, puts none into it', like => qr/$wall/s);
is($f->sql(q{SELECT groups FROM fleet.server WHERE server = 'trap'}), '{}', 'it is in no group');

# A task that names a group first has it: a server of somebody else's does not come into it later.
$f->sql(q{SET ROLE alice; SELECT fleet.create_package('soon', params => '{"key": null}'); SELECT fleet.add_task('soon', 't', job => 'work', on_group => 'soon there')});
is($f->sql(q{SELECT name, owner, servers FROM fleet.group WHERE name = 'soon there'}), 'soon there|alice|{}', 'a group is of who names it first, in a task');
$f->fails(q{SET ROLE mallory; SELECT fleet.alter_server('trap', groups => '{soon there}')}, '42501', 'mallory does not fill it', like => qr/$wall/s);
$f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only,soon there}')});
$f->run_is($f->sql(q{SET ROLE alice; SELECT fleet.run_parent_package('soon', params => '{"key": "soon"}')}), 'succeeded', 'a superuser does');
is($f->sql(q{SELECT servers FROM fleet.group WHERE name = 'soon there'}), '{d1b}', 'the view shows who is in it');

# Who comes second is told whose it is, unless it is an administrator's.
($rc, $out, $err) = $f->try_as('bob', q{SELECT fleet.create_package('second'); SELECT fleet.add_task('second', 't', job => 'work', on_group => 'soon there')});
like($err, qr/NOTICE:.*group "soon there" belongs to role "alice".*DETAIL:  Members of that role decide which servers/s, 'who names the group of another role is told so');
($rc, $out, $err) = $f->try_as('bob', q{SELECT fleet.drop_package('second'); SELECT fleet.create_package('second'); SELECT fleet.add_task('second', 't', job => 'work', on_group => 'all')});
is($err, '', '… not so with one of a superuser');

# Its name is not free while anything uses it: a task, a server, a run whose package is gone.
my $in_use = sub { my ($what) = @_; return qr/cannot drop group "soon there" because it is used.*DETAIL:  By \Q$what\E\..*HINT:  Take its servers out/s; };
$f->fails(q{SET ROLE alice; SELECT fleet.drop_group('soon there')}, '2BP01', 'dropped while it is used', like => $in_use->('server "d1b", task "t" of package "soon"'));
$f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only}')});
$f->sql(q{REVOKE USAGE ON FOREIGN SERVER d1b FROM alice; SELECT fleet.alter_server('d1b', groups => '{soon there}')});
$run = $f->sql(q{SET ROLE alice; SELECT fleet.run_parent_package('soon', params => '{"key": "kept"}')});
$f->wait_for('parent', "SELECT waiting_for IS NOT NULL FROM fleet.task_run WHERE run_id = $run", 't', 'a run waits');
$f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only}'); SET ROLE alice; SELECT fleet.drop_package('soon')});
$f->run_is($run, 'failed', 'its last server leaves the group: it fails');
$f->sql(q{SET ROLE alice; SELECT fleet.create_package('soon', params => '{"key": null}'); SELECT fleet.add_task('soon', 'u', sql => $$SELECT etl.work_until_released()$$);
    SELECT fleet.add_task('soon', 't', job => 'work', on_group => 'soon there', after => '{u}')});
$f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only,soon there}')});
$run = $f->sql(q{SET ROLE alice; SELECT fleet.run_parent_package('soon', params => '{"key": "open"}')});
$f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only}'); SET ROLE alice; SELECT fleet.drop_package('soon')});
$f->fails(q{SET ROLE alice; SELECT fleet.drop_group('soon there')}, '2BP01', 'a run that is open keeps the name', like => $in_use->("run $run"));
$f->wait_started('open');
$f->release('open');
$f->run_is($run, 'failed', 'it ends');
is($f->sql(q{SET ROLE alice; SELECT fleet.drop_group('soon there'), fleet.drop_group('soon there', if_exists => true)}), 't|f', 'then it can be dropped');
$f->sql('GRANT USAGE ON FOREIGN SERVER d1b TO alice');

# Members of the owner; and a new owner.
$f->sql(q{SET ROLE bob; SELECT fleet.create_group('of team', owner => 'team')});
$f->sql("SET ROLE bob; SELECT fleet.add_server('bobs', '$trap', username => 'trap', password => 'trap', mode => 'direct', groups => '{of team}')");
is($f->sql(q{SELECT owner, servers FROM fleet.group WHERE name = 'of team'}), 'team|{bobs}', 'a member of the owner puts a server in');
$f->fails(q{SET ROLE alice; SELECT fleet.create_group('of team')}, '42710', 'the name is taken', like => qr/group "of team" already exists/);
$f->sql('REVOKE team FROM bob');
$f->fails(q{SET ROLE bob; SELECT fleet.alter_server('bobs', groups => '{}'), fleet.alter_server('bobs', groups => '{of team}')}, '42501', 'a member no longer: not again', like => qr/permission denied for group "of team"/);

is($f->sql(q{SELECT servers FROM fleet.group WHERE name = 'of team'}), '{bobs}', 'his server is still in it');
$f->fails(q{SET ROLE bob; SELECT fleet.alter_group('of team', remove_servers => '{bobs}')}, '42501', 'he has no say in the group', like => qr/permission denied for group "of team"/);
$f->sql(q{CREATE ROLE captain LOGIN; GRANT team TO captain});
$f->fails(q{SET ROLE captain; SELECT fleet.alter_group('of team', remove_servers => '{bobs,nothing}')}, '42704', 'what is not in it is not taken out', like => qr/server "nothing" is not in group "of team"/, help => 1);
$f->sql(q{SET ROLE captain; SELECT fleet.alter_group('of team', remove_servers => '{bobs}')});
is($f->sql(q{SELECT servers FROM fleet.group WHERE name = 'of team'}) . $f->sql(q{SELECT groups FROM fleet.server WHERE server = 'bobs'}), '{}{}', 'who has the group takes the server of somebody else out of it');
$f->sql(q{SELECT fleet.alter_server('bobs', groups => '{of team}'); DROP ROLE captain});

# An old run is restarted: its document names a group, and servers, that are somebody else's now.
for my $case ([ 'a group', q{on_group => 'was hers'}, q{SELECT fleet.drop_group('was hers')}, q{SELECT fleet.alter_server('trap', groups => '{was hers}')}, 'group "was hers"' ],
    [ 'a server', q{server => 'free name'}, q{RESET ROLE; SELECT fleet.remove_server('free name')}, q{CREATE SERVER "free name" FOREIGN DATA WRAPPER pg_fleet; SELECT fleet.register_server('free name', mode => 'direct')}, 'server "free name"' ])
{
    my ($what, $target, $give_up, $take, $named) = @$case;
    $f->sql(q{SELECT fleet.add_server('free name', 'host=127.0.0.1 port=1', mode => 'direct'); GRANT USAGE ON FOREIGN SERVER "free name" TO alice}) if $what eq 'a server';
    $f->sql("SET ROLE alice; SELECT fleet.create_package('old', params => '{\"key\": null}'); SELECT fleet.add_task('old', 'first', sql => 'SELECT 1 / 0');"
          . " SELECT fleet.add_task('old', 'then', job => 'work', $target, after => '{first}')");
    $f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only,was hers}')}) if $what eq 'a group';
    my $old = $f->sql(q{SET ROLE alice; SELECT fleet.run_parent_package('old', params => '{"key": "old"}')});
    $f->run_is($old, 'failed', "$what: a run fails before it comes to it");
    $f->sql(q{SELECT fleet.alter_server('d1b', groups => '{direct only}')}) if $what eq 'a group';
    $f->sql("SET ROLE alice; SELECT fleet.drop_package('old'); $give_up; RESET ROLE; SET ROLE mallory; $take");
    $f->fails("SET ROLE alice; SELECT fleet.restart_run($old)", '55000', "$what that is mallory's now: the run is not restarted into it",
        like => qr/\Q$named is not the one that run $old knew\E.*DETAIL:  Role "mallory" has given.*HINT/s);
    $f->sql('ALTER ROLE alice SUPERUSER');
    $f->fails("SET ROLE alice; SELECT fleet.restart_run($old)", '55000', "$what: nor is a superuser's, who may become mallory and does not mean him", like => qr/\Q$named is not the one/);
    $f->sql('ALTER ROLE alice NOSUPERUSER');
    if ($what eq 'a server')
    {
        $f->sql('SET ROLE mallory; ALTER SERVER "free name" RENAME TO "name z"; RESET ROLE');
        $f->fails("SET ROLE alice; SELECT fleet.restart_run($old)", '55000', "$what: nor by a name that mallory's had", like => qr/server "name z" is not the one that run $old knew/);
    }
    $f->sql("GRANT mallory TO alice; SET ROLE alice; SELECT fleet.cancel_run(fleet.restart_run($old)); RESET ROLE; REVOKE mallory FROM alice");
    pass("$what: of who may act as mallory, it is");
}
$f->sql(q{SET ROLE mallory; SELECT fleet.alter_server('trap', groups => '{}'), fleet.drop_group('was hers')});

# An owner that was dropped: nobody puts servers in, until a superuser or an operator gives the group to somebody.
$f->sql('DROP ROLE team');
my $orphan = qr/permission denied for group "of team".*DETAIL:  The role that it belonged to no longer exists.*HINT:  A superuser or a member of fleet_operator can give it another owner/s;
$f->fails(q{SET ROLE mallory; SELECT fleet.alter_server('trap', groups => '{of team}')}, '42501', 'its owner is gone: mallory does not take it', like => $orphan);
$f->fails(q{SET ROLE mallory; SELECT fleet.alter_group('of team', 'mallory')}, '42501', 'nor by alter_group', like => $orphan);
$f->fails(q{SET ROLE mallory; SELECT fleet.drop_group('of team')}, '42501', 'nor does he drop it', like => $orphan);
$f->sql(q{SET ROLE operator; SELECT fleet.alter_group('of team', 'operator')});
is($f->sql(q{SELECT owner FROM fleet.group WHERE name = 'of team'}), 'operator', 'but takes it');

# Nothing went to the trap; and nobody has seen what is not theirs.
is($f->sql_on('witness', q{SELECT count(*) FROM pg_stat_database WHERE datname = 'trap' AND sessions > 0}), '0', "no link was made to mallory's server");
is($f->sql(q{SET ROLE mallory; SELECT string_agg(name, ' ' ORDER BY name) FROM fleet.group}), '', 'mallory sees no group of others');
is($f->sql(q{SET ROLE alice; SELECT string_agg(name, ', ' ORDER BY name) FROM fleet.group WHERE owner = 'alice'}), 'agents only, direct only', 'alice sees hers');

# ---- dump and restore --------------------------------------------------------------------------

my $node = $f->parent;
$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/groups.dump', $node->connstr('dw') ], 'the database is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $node->basedir . '/groups.dump' ], 'and restored');
is($node->safe_psql('copy', q{SELECT string_agg(name || ' ' || owner, ', ' ORDER BY name) FROM fleet.group WHERE owner IN ('alice', 'operator')}),
    'agents only alice, direct only alice, of team operator', 'the groups and whose they are come along');
$node->safe_psql('postgres', 'DROP DATABASE copy WITH (FORCE)');

$f->done;
