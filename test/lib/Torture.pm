# Torture.pm
#     A fleet of real clusters (a parent with a synchronous standby, two servers of mode agent, one of mode
#     direct, a proxy before each), on which rounds are played: TorturePlan draws one from the seed,
#     TortureFaults does what it says, TortureCheck says what does not hold afterwards.
#     Used by test/torture/torture.pl (make torture) and test/t/063_torture.pl.
package Torture;

use strict;
use warnings;
use FleetTest qw(quote_literal);
use JSON::PP;
use List::Util qw(first sum0);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use TortureCheck;
use TortureFaults;
use TorturePlan;

our $LOST_AFTER = 30;
# mutants are given less (test/mutants/run.py), but what is lost takes its time here
$FleetTest::PATIENCE = 90 if $FleetTest::PATIENCE < 90;
my $DEBUG = $ENV{TORTURE_DEBUG};

my $BEGIN = time;
sub debug { diag(sprintf '%7.1f s %s', time - $BEGIN, @_) if $DEBUG; return; }

# ---- the fleet ---------------------------------------------------------------------------------

sub fleet
{
    my $f = FleetTest->new(agents => 2, direct => 1, proxy => 1, preload => 1, streaming => 1, delays => 0, register => 0,
        conf => "fleet.lost_after = '${LOST_AFTER}s'\nshared_buffers = '16MB'\nrestart_after_crash = on\nmax_wal_size = '1GB'\nlog_min_messages = warning\n");
    $f->sql(q{CREATE ROLE planner LOGIN; CREATE ROLE mate LOGIN; GRANT USAGE ON SCHEMA etl TO planner, mate; GRANT INSERT ON etl.effect TO planner, mate});
    for my $child ($f->children)
    {
        $f->sql_on($child, q{CREATE ROLE mate LOGIN PASSWORD 'mate'; GRANT USAGE ON SCHEMA etl TO PUBLIC; GRANT INSERT ON etl.effect TO PUBLIC});
        $f->node($child)->append_conf('postgresql.conf', "restart_after_crash = on\nmax_connections = 40\nlog_min_messages = warning\n");
        move_to_small_disk($f) if $child eq 'a2';
        $f->forget($child);
        $f->node($child)->restart;
    }
    define_bodies($f, $_) for 'parent', $f->children;
    add_server($f, $_) for $f->children;
    define_jobs($f);
    TortureFaults::make_standby($f);
    return $f;
}

# Where test/run.sh has made one, a2's data directory is on it.
sub move_to_small_disk
{
    my ($f) = @_;
    my $disk = $ENV{TORTURE_DISK} or return;
    my $data = $f->node('a2')->data_dir;
    $f->node('a2')->append_conf('postgresql.conf', "max_wal_size = '64MB'\nmin_wal_size = '32MB'\n");
    $f->forget('a2');
    $f->node('a2')->stop;
    system_or_bail('mv', $data, "$disk/a2");
    symlink "$disk/a2", $data or die "$data: $!";
    $f->node('a2')->start;
    return;
}

sub add_server
{
    my ($f, $name) = @_;
    $f->register($name);
    map_roles($f, $name);
    return;
}

sub map_roles
{
    my ($f, $name) = @_;
    TortureFaults::statement($f, 'parent', "GRANT USAGE ON FOREIGN SERVER $name TO planner, mate; "
          . "CREATE USER MAPPING FOR planner SERVER $name $TortureFaults::PLANNER; "
          . "CREATE USER MAPPING FOR mate SERVER $name OPTIONS (user 'mate', password 'mate')");
    return;
}

sub define_bodies
{
    my ($f, $node) = @_;
    my $witness = 'host=127.0.0.1 port=' . $f->node('witness')->port . ' dbname=witness user=witness password=witness';
    $f->sql_on($node, <<"SQL");
CREATE TABLE public.hog (filler text);
ALTER TABLE public.hog ALTER filler SET STORAGE PLAIN;
ALTER TABLE public.hog SET (parallel_workers = 24);
INSERT INTO public.hog SELECT repeat('x', 7000) FROM generate_series(1, 60);
SET ROLE etl;
CREATE OR REPLACE FUNCTION etl.key() RETURNS text LANGUAGE sql AS \$\$
    SELECT concat_ws('/', p ->> 'key', p ->> 't', coalesce(p ->> 'o', '0'), coalesce(p ->> 'i', '0'))
      FROM CAST(current_setting('fleet.params') AS jsonb) AS p\$\$;
CREATE FUNCTION etl.effect(part text DEFAULT '') RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    INSERT INTO etl.effect (key) VALUES (etl.key() || part);
    PERFORM etl.witness('end');
END \$\$;
CREATE FUNCTION etl.talk() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    FOR i IN 1 .. 20 LOOP
        RAISE NOTICE 'line % of %', i, etl.key();
    END LOOP;
    PERFORM etl.effect();
    RETURN etl.key();
END \$\$;
-- fails until the third time that it is tried
CREATE FUNCTION etl.flaky(needed integer DEFAULT 3) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
    tries bigint;
BEGIN
    PERFORM etl.witness('try');
    SELECT n INTO tries FROM public.dblink('$witness', format('SELECT count(*) FROM event WHERE what = ''try'' AND key = %L', etl.key())) AS t(n bigint);
    PERFORM etl.effect();
    IF tries < needed THEN
        RAISE EXCEPTION 'not yet' USING ERRCODE = '40001';
    END IF;
END \$\$;
-- takes its time and tells the witness so
CREATE FUNCTION etl.slow(tenths integer DEFAULT 5) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.effect();
    FOR i IN 1 .. tenths LOOP
        PERFORM pg_sleep(0.1);
        PERFORM etl.witness('beat');
    END LOOP;
END \$\$;
CREATE FUNCTION etl.fail() RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.effect();
    RAISE EXCEPTION 'it fails';
END \$\$;
CREATE PROCEDURE etl.proc() LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.effect();
    COMMIT;
    PERFORM etl.witness('after');
END \$\$;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA etl TO PUBLIC;
SQL
    return;
}

sub define_jobs
{
    my ($f) = @_;
    my %steps = (
        work   => [ { sql => 'SELECT etl.work()' } ],
        talk   => [ { sql => 'SELECT etl.talk()' } ],
        flaky  => [ { sql => 'SELECT etl.flaky()', retries => 5, retry_wait => '10ms' } ],
        again  => [ { sql => 'SELECT etl.flaky(2)' } ],
        slow   => [ { sql => 'SELECT etl.slow()' } ],
        stay   => [ { sql => 'SELECT etl.slow(40)' } ],
        two    => [ { sql => q{SELECT etl.effect('/1')} }, { sql => q{SELECT etl.effect('/2')} } ],
        branch => [ { sql => q{SELECT etl.fail()}, failure_goto => 's3' }, { sql => q{SELECT etl.effect('/b')} }, { sql => q{SELECT etl.effect('/c')} } ],
        proc   => [ { sql => 'CALL etl.proc()' } ],
        child  => [ { package => 'inner' } ],
        fail   => [ { sql => 'SELECT etl.fail()' } ],
        late   => [ { sql => 'SELECT etl.slow(600)', timeout => '300ms' } ]);
    $f->sql(q{SET ROLE planner; SELECT fleet.create_package('inner');
        SELECT fleet.add_task('inner', 'x', sql => 'SELECT etl.effect(''/x'')', check_syntax => true);
        SELECT fleet.add_task('inner', 'y', sql => 'SELECT etl.effect(''/y'')', after => '{x}')});
    for my $job (sort keys %steps)
    {
        my $n = 0;
        my $sql = join '; ', "SELECT fleet.create_job('$job')", map { my $step = $_; $n++;
            "SELECT fleet.add_step('$job', 's$n', " . join(', ', map { "$_ => " . ($step->{$_} =~ /^\d+$/ ? $step->{$_} : quote_literal($step->{$_})) } sort keys %$step) . ')' } @{ $steps{$job} };
        $f->{torture_jobs}{$job} = "$sql; SELECT * FROM fleet.deploy_job('$job', on_group => 'agents')";
        $f->sql("SET ROLE planner; $f->{torture_jobs}{$job}");
    }
    $f->sql(q{SET ROLE mate; SELECT fleet.create_job('mates'); SELECT fleet.add_step('mates', 's', 'SELECT etl.work()');
        SELECT * FROM fleet.deploy_job('mates', on_group => 'agents');
        SELECT fleet.create_package('mates', params => '{"key": null, "t": "mate"}');
        SELECT fleet.add_task('mates', 'mate', job => 'mates', on_group => 'all', for_each => 'SELECT jsonb_build_object(''i'', n) FROM generate_series(1, 3) AS n')});
    $f->wait_for('parent', q{SELECT count(*) FROM fleet.deployment WHERE state <> 'deployed'}, '0') or die 'jobs are not deployed';
    return;
}

# ---- one round -------------------------------------------------------------------------------------

# Nothing if the query gives the value in the end; otherwise what it gives.
sub until_is
{
    my ($f, $node, $sql, $expected) = @_;
    my $end = time + $FleetTest::PATIENCE;
    my $got;
    while (($got = TortureFaults::statement($f, $node, $sql)) ne $expected)
    {
        return $got if time > $end;
        select undef, undef, undef, 0.05;    # (time passes) between two looks
    }
    return;
}

sub define_packages
{
    my ($f, $plan) = @_;
    my $sql = "SET ROLE planner;\n";
    for my $package (@{ $plan->{packages} })
    {
        my $name = $package->{name};
        $sql .= "SELECT fleet.create_package('$name', params => '{\"key\": null}');\n";
        for my $task (@{ $package->{tasks} })
        {
            my $args = $task->{args};
            $sql .= "SELECT fleet.add_task('$name', '$task->{name}', " . join(', ', map { "$_ => " . ($args->{$_} =~ /^\d+$/ ? $args->{$_} : quote_literal($args->{$_})) } sort keys %$args) . ");\n";
        }
        $sql .= "SELECT fleet.add_precedence('$name', '$_->{from}', '$_->{to}', on_outcome => '$_->{on}', condition => " . quote_literal($_->{condition}) . ");\n" for @{ $package->{edges} };
    }
    $f->sql($sql);
    return;
}

sub request
{
    my ($f, $r) = @_;
    my $role = $r->{mate} ? 'mate' : 'planner';
    # asked for again with its key, if the answer was lost
    $r->{run} = TortureFaults::statement($f, 'parent', "SET ROLE $role; SELECT fleet.run_parent_package('$r->{package}', params => '{\"key\": \"$r->{key}\"}', run_key => '$r->{key}')");
    return;
}

# Changes of definitions: runs that have been requested do not see them.  Of a package that is still to be
# requested nothing is changed.
sub change
{
    my ($f, $plan, $what, $at) = @_;
    my ($package) = grep { my $name = $_->{name}; (grep { $_->{package} eq $name } @{ $plan->{requests} })
          && !(grep { $_->{package} eq $name && !$_->{run} } @{ $plan->{requests} }) && !$plan->{dropped}{$name} } @{ $plan->{packages} };
    my @jobs = sort keys %{ $f->{torture_jobs} };
    my $job = $jobs[ $at % @jobs ];
    my $sql =
        $what eq 'redefine' ? "BEGIN; SELECT count(fleet.alter_step(s.job, s.step, reset => '{on_failure}')) FROM fleet.step AS s WHERE s.job = '$job';"
                              . " SELECT count(fleet.drop_step(s.job, s.step)) FROM (SELECT * FROM fleet.step WHERE job = '$job' ORDER BY step_no DESC) AS s;"
                              . ($f->{torture_jobs}{$job} =~ s/\ASELECT fleet\.create_job\([^)]*\);//r) . '; COMMIT'
      : $what eq 'slots'    ? sprintf(q{RESET ROLE; SELECT fleet.alter_server('%s', slots => %d)}, (qw(a1 a2 d1))[ $at % 3 ], 1 + $at % 7)
      : !$package           ? return 'no package of which all is requested'
      : $what eq 'grow'     ? sprintf(q{SELECT fleet.add_task('%s', 'grown %d', sql => 'SELECT etl.work()')}, $package->{name}, $at)
      : $what eq 'shrink'   ? "SELECT fleet.drop_task('$package->{name}', '$package->{tasks}[-1]{name}')"
      :                       "SELECT fleet.drop_package('$package->{name}')";
    $plan->{dropped}{ $package->{name} } = 1 if $what eq 'drop_package' || $what eq 'shrink';
    my ($rc, undef, $err) = $f->kept('parent')->run("SET ROLE planner; SET lock_timeout = '5s'; $sql");
    return $rc == 0 ? undef : (split /\n/, $err)[0];
}

# What an action does; what ends it goes on the list.
sub act
{
    my ($f, $plan, $action, $done, $ends) = @_;
    my $what = $action->{what};
    my ($end, $why);
    if ($what eq 'cancel')
    {
        my $r = $plan->{requests}[ $action->{request} ];
        return 'it is not there yet' unless $r->{run};
        $r->{canceled} = $done->{canceled} = 1;
        TortureFaults::statement($f, 'parent', "SELECT fleet.cancel_run($r->{run})");
    }
    elsif ($what =~ /^(?:grow|shrink|redefine|slots|drop_package)$/)
    {
        $why = change($f, $plan, $what, $action->{at});
    }
    else
    {
        note_fault($done, $action);
        ($end, $why) = TortureFaults::commit($f, $action);
        push @$ends, { since => time, at => time + $action->{for}, end => $end, what => $what } if $end;
    }
    $done->{count}{$what}++ unless defined $why;
    return $why;
}

# What this allows that would otherwise be wrong (TortureCheck).
sub note_fault
{
    my ($done, $action) = @_;
    my $what = $action->{what};
    my $fault = $TorturePlan::FAULT{$what};
    $done->{lethal} = 1 if $fault->{lethal};
    $done->{servers_touched} = 1 if $what =~ /^(?:rename|elsewhere|dropped)$/;
    $done->{long} = 1 if $fault->{long};
    $done->{disk} = 1 if $what eq 'disk';
    my $victim = TortureFaults::victim($action) || '';
    $done->{crashed}{$victim} = 1 if $what =~ /^(?:kill|restart|down|away)$/ || $what eq 'point' && $action->{when} eq 'after';
    $done->{ends}++ if $what =~ /^(?:terminate|kill|restart|down|point|cut|drop|match|strand|half|hole|freeze|promote|zombie)$/;
    return;
}

sub started { my ($f) = @_; return TortureFaults::statement($f, 'witness', 'SELECT count(*) FROM event'); }

# What is open although there was time enough; nothing if nothing is.
sub all_end
{
    my ($f) = @_;
    my ($end, $look) = (time + 2 * $FleetTest::PATIENCE, time + 5);
    my $open;
    while (($open = TortureFaults::statement($f, 'parent', 'SELECT count(*) FROM fleet.run WHERE finished_at IS NULL')) ne '0')
    {
        return $open if time > $end;
        if ($DEBUG && time > $look)
        {
            debug("what is open:\n" . TortureFaults::statement($f, 'parent', q{SELECT concat_ws(' ', run_id, task, item, state, server, attempt, retry_at, message) FROM fleet.task_run WHERE state NOT IN
                ('succeeded', 'failed', 'canceled', 'skipped', 'lost', 'unknown') AND started_at IS NOT NULL ORDER BY 1}) . "\n"
                  . TortureFaults::statement($f, 'parent', q{SELECT concat_ws(' ', server, state, busy, last_error_at, last_error) FROM fleet.server_status}));
            $look += 5;
        }
        select undef, undef, undef, 0.05;    # (time passes) between two looks
    }
    return;
}

# Plays a round to its end: what is wrong then.
sub play
{
    my ($f, $plan, $done) = @_;
    define_packages($f, $plan);
    my @todo = sort { $a->{at} <=> $b->{at} } (map { { at => $_->{at}, request => $_ } } @{ $plan->{requests} }), (map { { at => $_->{at}, act => $_ } } @{ $plan->{actions} });
    my ($events, $changed, @ends) = (-1, time);
    while (@todo || @ends)
    {
        my $now = started($f);
        ($events, $changed) = ($now, time) if $now != $events;
        # when nothing goes on any more, what was to come later comes now
        my $hurry = time > $changed + 1.5;
        while (@todo && ($todo[0]{at} <= $events || $hurry))
        {
            my $next = shift @todo;
            if ($next->{request}) { request($f, $next->{request}); }
            else
            {
                my $why = act($f, $plan, $next->{act}, $done, \@ends);
                debug(sprintf '  %d: %s %s%s', $events, $next->{act}{what}, TortureFaults::victim($next->{act}) || $next->{act}{child} || '', defined $why ? " (not done: $why)" : '');
            }
            ($hurry, $changed) = (0, time);
        }
        my @due = grep { $_->{at} <= time } @ends;
        @ends = grep { my $end = $_; !grep { $_ == $end } @due } @ends;
        for my $end (@due)
        {
            debug("  $events: end of $end->{what}");
            $end->{end}->();
            # on a machine that has much else to do it may have lasted
            $done->{long} = 1 if time > $end->{since} + $LOST_AFTER / 2;
        }
        select undef, undef, undef, 0.03;    # (time passes) between two looks
    }
    $f->proxy->ctl('allow', $_) for $f->children;
    TortureFaults::after_promotion($f);
    debug('all runs are to end');
    my $open = all_end($f);
    my @wrong = defined $open ? "$open runs do not end" : ();
    debug('what holds?');
    push @wrong, TortureCheck::check($f, $plan, $done);
    my $counted = TortureFaults::statement($f, 'parent', "SELECT count(DISTINCT run_id) || ' ' || count(*) FROM fleet.run AS r JOIN fleet.task_run USING (run_id) WHERE r.params ->> 'key' LIKE '$plan->{key}.%'");
    ($done->{runs}, $done->{task_runs}) = split / /, $counted;
    return @wrong;
}

sub clean_up
{
    my ($f) = @_;
    TortureFaults::statement($f, $_, 'TRUNCATE etl.effect') for 'parent', $f->children;
    TortureFaults::statement($f, 'witness', 'TRUNCATE event');
    return;
}

# What a violation leaves to look at, beside the servers' logs.
sub keep_evidence
{
    my ($f, $plan, $seed, $wrong) = @_;
    my $file = "$PostgreSQL::Test::Utils::log_path/torture_seed_${seed}_round_$plan->{round}.txt";
    open my $out, '>', $file or die "$file: $!";
    print {$out} map { "$_\n" } @$wrong;
    print {$out} JSON::PP->new->pretty->canonical->encode({ %$plan });
    for my $query ("SELECT * FROM fleet.run WHERE params ->> 'key' LIKE '$plan->{key}.%' ORDER BY run_id",
        "SELECT t.* FROM fleet.task_run AS t JOIN fleet.run AS r USING (run_id) WHERE r.params ->> 'key' LIKE '$plan->{key}.%' ORDER BY run_id, task_no, item",
        'SELECT * FROM fleet.job_log WHERE run_id IN (SELECT run_id FROM fleet.run WHERE params ->> \'key\' LIKE \'' . $plan->{key} . '.%\') ORDER BY started_at',
        'SELECT * FROM fleet.server_status',
        "SELECT l.* FROM fleet.log AS l JOIN fleet.run AS r USING (run_id) WHERE r.params ->> 'key' LIKE '$plan->{key}.%' ORDER BY l.run_id, l.job_run_id, l.task, l.item, l.seq")
    {
        my ($rows, $err) = ('', '');
        $f->parent->psql($FleetTest::DB, $query, stdout => \$rows, stderr => \$err, extra_params => ['-x']);
        print {$out} "\n-- $query\n$rows$err\n";
    }
    for my $node ($f->children)
    {
        my $rows = join "\n", map { eval { TortureFaults::statement($f, $node, $_) } // "$@" } 'SELECT * FROM etl.effect ORDER BY at',
          $f->mode($node) eq 'agent' ? ('SELECT * FROM fleet_catalog.job_run ORDER BY 1 DESC LIMIT 200', 'SELECT * FROM fleet_catalog.step_run ORDER BY started_at DESC LIMIT 400') : ();
        print {$out} "\n-- $node\n$rows\n";
    }
    print {$out} "\n-- witness\n", TortureFaults::statement($f, 'witness', 'SELECT * FROM event ORDER BY id'), "\n";
    close $out;
    return $file;
}

# rounds(fleet, seed => n, seconds => n, first => round, rounds => n, times => n, only => [kinds], brief => 1):
# how many violations; times: the first round so often
sub rounds
{
    my ($f, %opt) = @_;
    my ($begin, $first, $n, $bad) = (time, $opt{first} || 1, 0, 0);
    my $rounds = $opt{times} || $opt{rounds};
    my %sum;
    while ($rounds ? $n < $rounds : time < $begin + $opt{seconds})
    {
        my $round = $opt{times} ? $first : $first + $n;
        my $plan = TorturePlan::draw($opt{seed}, $round, %opt, again => $opt{times} ? $n : 0);
        $n++;
        my $done = { count => {}, crashed => {}, ends => 0 };
        debug("round $round");
        my @wrong = eval { play($f, $plan, $done) };
        push @wrong, "the torture itself has failed: $@" if $@;
        $sum{$_} += $done->{$_} for qw(runs task_runs);
        $sum{faults}{$_} += $done->{count}{$_} for keys %{ $done->{count} };
        $sum{rounds}++;
        if (!is(scalar @wrong, 0, "seed $opt{seed}, round $round holds" . (@wrong ? ": $wrong[0]" : '')))
        {
            $bad += @wrong;
            my $file = keep_evidence($f, $plan, $opt{seed}, \@wrong);
            diag(join "\n", @wrong[ 0 .. ($#wrong > 30 ? 30 : $#wrong) ],
                "again: make torture SEED=$opt{seed} ROUND=$round TIMES=10" . ($opt{brief} ? ' BRIEF=1' : '') . ', or ROUND=1 and no TIMES, with what came before it',
                "done: " . join(' ', map { "$_ $done->{count}{$_}" } sort keys %{ $done->{count} }), "rows: $file; the servers' logs are beside it");
            last;
        }
        clean_up($f);
        debug("$done->{runs} runs, $done->{task_runs} task runs");
    }
    diag(sprintf '%.1f minutes, %d rounds, %d runs, %d task runs, %d violations; %s', (time - $begin) / 60, map({ $_ || 0 } @sum{qw(rounds runs task_runs)}), $bad,
        join ', ', map { "$_ $sum{faults}{$_}" } sort keys %{ $sum{faults} });
    return $bad;
}

# The standby is no part of what the suite looks at in the end.
sub done
{
    my ($f) = @_;
    $f->parent->append_conf('postgresql.conf', "synchronous_standby_names = ''");
    $f->parent->reload;
    (delete $f->{standby})->stop('immediate') if $f->{standby};
    $f->{points} = {};
    $f->done(crashes => 1);
    return;
}

1;
