# A package here and now: execute_package() prints what happens while it happens, fails with the
# reason, and is canceled by Ctrl-C.  Learned durations: what is written of them, in which unit, over
# several runs, and that they are used.  Servers that change while the agent runs.
use strict;
use warnings;
use FleetTest;
use IPC::Run;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 2);

sub events { my ($key) = @_; return $f->sql_on('witness', "SELECT coalesce(string_agg(what || '\@' || server, ',' ORDER BY id), '') FROM event WHERE key = '$key'"); }

# psql with a statement, in the background: what it has said so far is in ->{err}.
sub psql_begin
{
    my ($query) = @_;
    my $p = { in => '', out => '', err => '' };
    $p->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $f->parent->connstr($FleetTest::DB), '-v', 'VERBOSITY=verbose', '-c', $query ],
        '<', \$p->{in}, '>', \$p->{out}, '2>', \$p->{err});
    return $p;
}

sub psql_says
{
    my ($p, $pattern, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $end = time + $FleetTest::PATIENCE;
    while ($p->{err} !~ $pattern && time < $end)
    {
        $p->{run}->pump_nb;
        select undef, undef, undef, 0.02; # (time passes) between two looks
    }
    return like($p->{err}, $pattern, $name);
}

sub psql_end { my ($p) = @_; return $p->{run}->finish ? 0 : 1; }

# What it printed: levels and texts, without places and codes.
sub lines
{
    my ($p) = @_;
    return join "\n", map { s/^INFO:  00000: //r } grep { /^INFO:/ } split /\n/, $p->{err};
}

# Longer than a silent server is borne: looked at in the end.
$f->job('quiet', q{DO $$ BEGIN PERFORM etl.witness('start'); PERFORM pg_sleep(12); PERFORM etl.witness('end'); END $$});
$f->package('quiet', t => { job => 'quiet', server => 'd2', params => '{"key": "quiet"}' });
my $quiet = $f->start('quiet');

# ---- execute_package ---------------------------------------------------------------------------

$f->job('said', q{DO $$ BEGIN RAISE NOTICE 'half'; PERFORM etl.work_until_released(); RAISE WARNING 'whole'; END $$}, { sql => 'SELECT 7' });
$f->package('show', '-params' => '{"key": "show"}', first => { sql => q{SELECT etl.work_until_released()} }, second => { job => 'said', server => 'a1', after => '{first}' }, third => { job => 'said', server => 'd1', after => '{second}', params => '{"key": "third"}' });
my $p = psql_begin(q{CALL fleet.execute_package('show')});
$f->wait_started('show');
psql_says($p, qr/first: started$/m, 'that a task has started is printed while it runs');
my $run = $f->sql(q{SELECT max(run_id) FROM fleet.run});
$f->release('show');
$f->wait_started('third');
psql_says($p, qr/third: NOTICE: half$/m, 'what a step says is printed while it runs, on a direct server');
$f->release('third');
is(psql_end($p), 0, 'execute_package succeeds');
like(lines($p), qr/\Arun $run of package "show"\nfirst: started\nfirst: succeeded, 1 row \(1 of 3 done[^)]*\)\n.*^run $run succeeded\z/ms, 'it prints the run, its tasks in order, and its end');
# how long the others will take depends on how long this one took here
my @said = map { s/ done, [^)]* left\)$/ done)/r } grep { /^second: (?!started)/ } split /\n/, lines($p);
is(join("\n", @said), "second: NOTICE: half\nsecond: WARNING: whole\nsecond: succeeded, 1 row (2 of 3 done)", 'lines of a task on an agent server, in order, once each, with its rows, and how many have ended');
is(scalar(grep { /^third: NOTICE: half$/ } split /\n/, lines($p)), 1, 'each line once');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'succeeded', 'the run has succeeded');

$f->package('fail', good => { sql => 'SELECT 1' }, bad => { sql => q{DO $$ BEGIN RAISE 'that is wrong' USING ERRCODE = 'ZX001', DETAIL = 'a detail'; END $$} });
my ($rc, $out, $err) = $f->try_as(undef, q{CALL fleet.execute_package('fail')});
$run = $f->sql(q{SELECT max(run_id) FROM fleet.run});
isnt($rc, 0, 'a package that fails is an ERROR');
like($err, qr/^psql:\S+ ERROR:\s+09000: package "fail" did not succeed: run $run is failed\nDETAIL:  bad: failed \(ZX001\): that is wrong\nHINT:  For more, see SELECT \* FROM fleet\.log WHERE run_id = $run\.$/m, '… with SQLSTATE, and in DETAIL which task, its SQLSTATE and message');
like($err, qr/bad: failed: that is wrong/, '… which was printed before');
$f->fails(q{CALL fleet.execute_package('no_such')}, '42704', 'a package that there is not', like => 'package "no_such" does not exist', help => 1);
$f->fails(q{BEGIN; CALL fleet.execute_package('fail')}, '2D000', 'it cannot run in a transaction block');
$f->fails(q{SELECT fleet_link.run_failure(-1)}, '42704', 'run_failure of a run that there is not', like => 'run -1 does not exist');

# Ctrl-C, and pg_cancel_backend by somebody else
my $stuck = "DO \$\$ BEGIN PERFORM etl.witness('start'); PERFORM pg_sleep(600) /* here */; PERFORM etl.witness('end'); END \$\$";
$f->job('stuck', $stuck);
$f->package('stuck', '-params' => '{"key": null}', here => { sql => $stuck }, agent => { job => 'stuck', server => 'a1' }, direct => { job => 'stuck', server => 'd1' });
for my $how (qw(INT pg_cancel_backend))
{
    $f->sql_on('witness', q{DELETE FROM event WHERE key = 'int'});
    $p = psql_begin(q{CALL fleet.execute_package('stuck', params => '{"key": "int"}')});
    $f->wait_started('int', 3);
    $run = $f->sql(q{SELECT max(run_id) FROM fleet.run});
    # it has said all that there is to say, and waits
    psql_says($p, qr/(?:: started.*){3}/s, "$how: all have begun");
    $f->wait_for('parent', q{SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'CALL fleet.execute_package%'}, 'Extension', "$how: it waits");
    $how eq 'INT' ? $p->{run}->signal('INT')
      : $f->sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL fleet.execute_package%' AND pid <> pg_backend_pid()});
    psql_end($p);
    like($p->{err}, qr/^ERROR:  57014: canceling run $run of package "stuck" due to user request$/m, "$how: an ERROR that says which run");
    $f->run_is($run, 'canceled', '… and that is canceled');
    is($f->sql_on($_, q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%/* here */%'}), '0', "… when nothing of it runs on $_") for qw(parent a1 d1);
    is($f->witnessed('int', 'end'), '0', '… nor came to its end');
}

# called by a step: a package within a package
$f->package('quick', t => { sql => q{SELECT etl.work()}, params => '{"key": "within"}' });
$f->sql(q{SELECT fleet.create_package('caller'), fleet.add_task('caller', 't', sql => $$CALL fleet.execute_package('quick')$$)});
$f->run_is($f->start('caller'), 'succeeded', 'a step may call it');
is(events('within'), 'start@parent,end@parent', 'it ran, once');

# ---- learned durations -------------------------------------------------------------------------

sub learned { my ($package, $what) = @_; return $f->sql("SELECT $what FROM fleet_catalog.duration WHERE package = '$package' AND item_key = ''"); }
sub took { my ($r, $task) = @_; return "(SELECT extract(epoch FROM finished_at - started_at) * 1000000 FROM fleet.task_run WHERE run_id = $r AND task = '$task')::double precision"; }

$f->sql(q{SELECT fleet.create_package('learn', params => '{"s": "0.4"}'), fleet.add_task('learn', 't', sql => $$SELECT pg_sleep(fleet.param('s')::float8)$$)});
my $one = $f->start('learn');
$f->run_is($one, 'succeeded', 'a first run');
is(learned('learn', 'task, samples, job'), 't|1|', 'one sample of its task');
is(learned('learn', "abs(log_mean - ln(" . took($one, 't') . ")) < 0.0001"), 't', 'the logarithm of what it took, in microseconds');
is(learned('learn', 'log_spread'), '0.5', 'its spread is not known yet');
my $mean = learned('learn', 'log_mean');
my $two = $f->start('learn', '{"s": "0.01"}');
$f->run_is($two, 'succeeded', 'a second run, much shorter');
is(learned('learn', 'samples'), '2', 'two samples');
# on a machine that is not busy the cut is met: a fortieth of the first one
my $residual = 'greatest(-1, least(1, ln(' . took($two, 't') . ") - $mean))";
is(learned('learn', "abs(log_mean - ($mean + 0.5 * $residual)) < 0.0001"), 't', 'it moves by half of what differs, cut at two spreads');
is(learned('learn', "abs(log_spread - (0.5 + 0.5 * (1.2533 * abs($residual) - 0.5))) < 0.0001"), 't', 'so does the spread');
is($f->sql(q{SELECT abs(extract(epoch FROM p.duration) * 1000000 / fleet_catalog.mean_us(d.log_mean, d.log_spread, d.samples) - 1) < 0.1 FROM fleet.plan('learn') AS p, fleet_catalog.duration AS d WHERE d.package = 'learn'}), 't', 'plan() says it')
  or diag($f->sql(q{SELECT extract(epoch FROM p.duration), d.*, fleet_catalog.mean_us(d.log_mean, d.log_spread, d.samples) FROM fleet.plan('learn') AS p, fleet_catalog.duration AS d WHERE d.package = 'learn'}));
$mean = learned('learn', 'log_mean');
$run = $f->start('learn', '{"s": "no"}');
$f->run_is($run, 'failed', 'a run that fails');
$run = $f->start('learn', '{"s": "600"}');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'and one …');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', '… that is canceled');
is(learned('learn', "samples, log_mean = $mean"), '2|t', 'teach nothing');

# items, by their parameters; on servers of both kinds; used for the order of starts
$f->job('nap', q{SELECT pg_sleep((current_setting('fleet.params')::jsonb ->> 's')::float8)});
for my $server (qw(a1 d1))
{
    my $package = "nap_$server";
    $f->sql("SELECT fleet.alter_server('$server', slots => 1)");
    $f->package($package, t => { job => 'nap', server => $server, for_each => q{SELECT jsonb_build_object('s', s) FROM unnest('{0.001,0.3,0.9}'::text[]) WITH ORDINALITY AS u(s, n) ORDER BY n} });
    $one = $f->start($package);
    $f->run_is($one, 'succeeded', "$server: items of three lengths");
    my $worth = "FROM fleet.task_run WHERE run_id = $one AND item > 0 AND finished_at - started_at >= '50ms'";
    is($f->sql("SELECT samples FROM fleet_catalog.duration WHERE package = '$package' AND item_key = ''"), '3', '… three samples of the task');
    is($f->sql("SELECT string_agg(item_key, ' ' ORDER BY item_key) FROM fleet_catalog.duration WHERE package = '$package' AND item_key <> ''"),
        $f->sql("SELECT string_agg(params::text, ' ' ORDER BY params::text) $worth"), '… a row for each item that is worth it, by its parameters');
    # the first one that ended: of the others, what the server's speed is thought to be is a part
    is($f->sql("SELECT string_agg(round(log_mean::numeric, 4)::text, ' ') FROM fleet_catalog.duration WHERE package = '$package' AND item_key = (SELECT params::text $worth ORDER BY finished_at LIMIT 1)"),
        $f->sql("SELECT round(ln(extract(epoch FROM finished_at - started_at) * 1000000), 4) $worth ORDER BY finished_at LIMIT 1"), '… what it took');
    is($f->sql("SELECT bool_and(abs(d.log_mean - ln(extract(epoch FROM t.finished_at - t.started_at) * 1000000)) < 0.8) FROM fleet_catalog.duration AS d JOIN fleet.task_run AS t ON t.run_id = $one AND t.params::text = d.item_key WHERE d.package = '$package'"), 't', '… each');
    $two = $f->start($package);
    $f->run_is($two, 'succeeded', '… a second run');
    is($f->sql("SELECT string_agg(item::text, ',' ORDER BY started_at) FROM fleet.task_run WHERE run_id = $two AND item > 0"), '3,2,1', '… starts what takes longest first');
    is($f->sql("SELECT string_agg(samples::text, ',') FROM fleet_catalog.duration WHERE package = '$package' AND item_key IN ('{\"s\": \"0.3\"}', '{\"s\": \"0.9\"}')"), '2,2', '… and is learned from');
}
# Each of them worked alone on what it did: that says nothing of its speed.
is($f->sql(q{SELECT count(*) FROM fleet_catalog.server_health WHERE speed_evidence > 0}), '0', 'no speed is learned of servers that share no work');

# ---- a long step -------------------------------------------------------------------------------

$f->run_is($quiet, 'succeeded', 'a DO with parameters on a direct server may take longer than the server may be silent');
is(events('quiet'), 'start@d2,end@d2', '… and is not taken for cut off');

# ---- servers that change -----------------------------------------------------------------------

$f->sql(q{SELECT fleet.alter_server('a1', slots => 4), fleet.alter_server('d1', slots => 4)});
$f->job('where', q{SELECT current_setting('port') || ' ' || session_user});
$f->package('where', t => { job => 'where', server => 'd1' }, u => { job => 'where', server => 'a1' });
sub where { my ($task) = @_; my $r = $f->start('where'); $f->run_is($r, 'succeeded', 'a run'); return $f->sql("SELECT output FROM fleet.task_run WHERE run_id = $r AND task = '$task'"); }
my %port = map { $_ => $f->node($_)->port } qw(a1 d1 d2);
is(where('t'), "$port{d1} etl", 'a server as it is');
$f->sql("ALTER SERVER d1 OPTIONS (SET port '$port{d2}')");
is(where('t'), "$port{d2} etl", 'ALTER SERVER: the next work goes where it leads');
$f->sql_on('d2', q{CREATE ROLE other LOGIN PASSWORD 'other-secret'});
$f->sql(q{ALTER USER MAPPING FOR CURRENT_USER SERVER d1 OPTIONS (SET "user" 'other', SET password 'other-secret')});
is(where('t'), "$port{d2} other", 'ALTER USER MAPPING: as whom it says');
$f->sql_on('d1', q{CREATE ROLE other LOGIN PASSWORD 'other-secret'});
# work that runs stays where it is
$f->job('gate', q{SELECT etl.work_until_released()});
$f->package('gate', t => { job => 'gate', server => 'd2', params => '{"key": "gate"}' }, u => { job => 'gate', server => 'a1', params => '{"key": "gate"}' });
$run = $f->start('gate');
$f->wait_started('gate', 2);
$f->sql("ALTER SERVER d2 OPTIONS (ADD connect_timeout '7'); ALTER SERVER a1 OPTIONS (ADD connect_timeout '7')");
is(where('u'), "$port{a1} etl", 'work that comes next goes on');
$f->release('gate');
$f->run_is($run, 'succeeded', 'work that runs while the options change is not lost');
is(join(',', sort split /,/, events('gate') =~ s/,?release@//r), 'end@a1,end@d2,start@a1,start@d2', '… nor done twice');
# slots
$f->package('slots', t => { job => 'gate', server => 'd2', for_each => q{SELECT jsonb_build_object('key', 'slots', 'n', i) FROM generate_series(1, 6) AS i} });
$f->sql(q{SELECT fleet.alter_server('d2', slots => 1)});
$run = $f->start('slots');
$f->wait_started('slots', 1);
$f->sql(q{SELECT fleet.alter_server('d2', slots => 6)});
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'slots' AND what = 'start'}, '6', 'more slots are used at once, by work that waits');
$f->release('slots');
$f->run_is($run, 'succeeded', 'all of it ends');
# a server that comes and goes
$f->sql("SELECT fleet.add_server('new', 'host=127.0.0.1 port=$port{d2} dbname=$FleetTest::DB sslmode=disable', username => 'etl', password => '$FleetTest::PASSWORD', mode => 'direct')");
$f->package('new', t => { job => 'where', server => 'new' });
$run = $f->start('new');
$f->run_is($run, 'succeeded', 'a server that was added while the agent runs is used');
$f->fails(q{SELECT fleet.remove_server('new')}, '2BP01', 'it is not removed while a task names it', like => qr/task "t" of package "new"/, help => 1);
$f->sql(q{SELECT fleet.remove_server('new', cascade => true)});
$f->fails(q{SELECT fleet.run_parent_package('new')}, '55000', 'or only together with that task', like => 'package "new" has no tasks');
$f->fails(q{SELECT fleet.add_task('new', 't', job => 'where', server => 'new')}, '42704', 'one that was removed is not used', like => 'server "new" does not exist');

$f->done;
