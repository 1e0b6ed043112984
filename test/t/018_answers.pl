# What follows from what: precedence constraints and their conditions, joins, the items of a for_each
# and their policies, retries, timeouts, and the ways that a job's steps go.  Executed where work is
# done (here, on a server of mode agent, on one of mode direct), with the exact state of each task and
# item, and counted by the rows that the work left behind and by the witness.
#
# Most cases are a package each, with a parameter "key" that is the package's name.  They are defined
# and started together, and looked at when all have ended.
#
# All of it has a small stack: what the agent does for a job must not get deeper with each of its steps.
use strict;
use warnings;
BEGIN { exec 'sh', '-c', 'ulimit -Ss 1024; FLEET_SMALL_STACK=1 exec "$@"', 'sh', $^X, (map { "-I$_" } @INC), $0, @ARGV unless $^C || $ENV{FLEET_SMALL_STACK}; }
use FleetTest 'quote_literal';
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 30, conf => "fleet.max_runners = 12\n");
my $witness = $f->node('witness')->port;
for my $server (qw(parent a1 d1))
{
    $f->sql_on($server, <<"SQL");
SET ROLE etl;
CREATE TABLE etl.trace (id bigserial, key text, what text, params jsonb DEFAULT current_setting('fleet.params', true)::jsonb);
CREATE FUNCTION etl.mark(what text) RETURNS text LANGUAGE sql AS
    'INSERT INTO etl.trace (key, what) VALUES (etl.key(), mark.what) RETURNING trace.what';
-- the first calls fail, as the witness counts them; the next one leaves a mark
CREATE FUNCTION etl.fail(times int, state text DEFAULT '22012', sub text DEFAULT '') RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    n int;
BEGIN
    PERFORM etl.witness('try' || sub);
    SELECT count INTO n FROM public.dblink('host=127.0.0.1 port=$witness dbname=witness user=witness password=witness',
        format('SELECT count(*) FROM event WHERE what = ''try%s'' AND key = %L', sub, etl.key())) AS t(count bigint);
    IF n <= times THEN
        RAISE EXCEPTION 'try %', n USING ERRCODE = state;
    END IF;
    RETURN etl.mark('tried');
END \$\$;
CREATE TABLE etl.touched (i int);
CREATE FUNCTION etl.touch() RETURNS int LANGUAGE sql AS 'INSERT INTO etl.touched VALUES (1) RETURNING i';
CREATE SEQUENCE etl.number;
GRANT USAGE ON SCHEMA etl TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA etl TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA etl TO PUBLIC;
SQL
}

# ---- cases -------------------------------------------------------------------------------------

my (%case, @order, $sql, %trace, %jobs);

sub arguments
{
    my ($args) = @_;
    return join '', map { ", $_ => " . ($args->{$_} =~ /^(?:true|false|[\d.]+)$/ ? $args->{$_} : quote_literal($args->{$_})) } sort keys %$args;
}

# define('name', [task => {…}, …], state => …, tasks => "a=succeeded …", …); sql: further definitions
sub define
{
    my ($name, $tasks, %expected) = @_;
    push @order, $name;
    $case{$name} = \%expected;
    my $params = $expected{params} || '{}';
    $sql .= "SELECT fleet.create_package('$name', params => '{\"key\": \"$name\"}'::jsonb || '$params');\n";
    my @tasks = @$tasks;
    while (my ($task, $args) = splice @tasks, 0, 2)
    {
        $sql .= "SELECT fleet.add_task('$name', '$task'" . arguments($args) . ");\n";
    }
    $sql .= "$expected{sql};\n" if $expected{sql};
    return;
}

# define_job('name', { name => step, … }, …)
sub define_job
{
    my ($name, @steps) = @_;
    $jobs{$name} = 1;
    $sql .= "SELECT fleet.create_job('$name');\n";
    for my $step (@steps)
    {
        my %s = %$step;
        my $step_name = delete $s{name};
        $sql .= "SELECT fleet.add_step('$name', '$step_name'" . arguments(\%s) . ");\n";
    }
    return;
}
sub mark { my ($what, %more) = @_; return { sql => "SELECT etl.mark('$what')", %more }; }
sub edge { my ($package, $from, $to, %more) = @_; return "SELECT fleet.add_precedence('$package', '$from', '$to'" . arguments(\%more) . ')'; }

# Starts what was defined and not started yet; waits for all of it.
my %run;
sub start_all
{
    my @new = grep { !$run{$_} } @order;
    $f->sql("BEGIN;\n$sql COMMIT");
    $sql = '';
    for my $job (sort keys %jobs) { $sql .= "SELECT * FROM fleet.deploy_job('$job', on_group => 'agents');\n"; }
    $f->sql($sql) if $sql;
    $f->wait_for('parent', q{SELECT count(*) FROM fleet.deployment WHERE state <> 'deployed'}, '0', 'the jobs are deployed') if %jobs;
    $sql = '';
    %jobs = ();
    my @runs = split /\n/, $f->sql(join ";\n", map { "SELECT fleet.run_parent_package('$_')" } @new);
    @run{@new} = @runs;
    return;
}

sub rows
{
    my ($query) = @_;
    my %rows;
    for my $line (split /\n/, $f->sql($query))
    {
        my ($key, $value) = split /\|/, $line, 2;
        $rows{$key} = $value;
    }
    return \%rows;
}

# What each case has come to, compared with what was promised.
sub check_all
{
    my @names = grep { !$case{$_}{checked}++ } @order;
    my $ids = join ',', map { $run{$_} } @names;
    $f->wait_for('parent', "SELECT string_agg(package, ',') FROM fleet.run WHERE state NOT IN ('succeeded', 'failed', 'canceled') AND run_id IN ($ids)", '', 'all runs have ended')
      ;
    my $state = rows("SELECT package, state FROM fleet.run WHERE run_id IN ($ids)");
    my $message = rows("SELECT package, coalesce(message, '') FROM fleet.run WHERE run_id IN ($ids)");
    my $tasks = rows("SELECT package, string_agg(task || '=' || state, ' ' ORDER BY task_no) FROM fleet.task_run WHERE item = 0 AND run_id IN ($ids) GROUP BY 1");
    my $items = rows("SELECT package, string_agg(item || '=' || state, ' ' ORDER BY task_no, item) FROM fleet.task_run WHERE item > 0 AND run_id IN ($ids) GROUP BY 1");
    my $told = rows("SELECT package || '/' || task || '/' || item, concat_ws(' ', sqlstate, message) FROM fleet.task_run WHERE run_id IN ($ids)");
    my $attempts = rows("SELECT package || '/' || task || '/' || item, attempt FROM fleet.task_run WHERE run_id IN ($ids)");
    my $steps = rows("SELECT package, string_agg(step || attempt || '=' || state || coalesce(':' || sqlstate, ''), ' ' ORDER BY started_at, task_attempt, attempt) FROM fleet.job_log WHERE run_id IN ($ids) GROUP BY 1");
    my $tries = { map { split /\|/ } split /\n/, $f->sql_on('witness', q{SELECT key, count(*) FROM event WHERE what LIKE 'try%' GROUP BY 1}) };
    for my $server (qw(parent a1 d1))
    {
        $trace{$server} = {};
        for my $line (split /\n/, $f->sql_on($server, q{SELECT key, string_agg(what, ' ' ORDER BY id) FROM etl.trace GROUP BY 1}))
        {
            my ($key, $what) = split /\|/, $line, 2;
            $trace{$server}{$key} = $what;
        }
    }
    for my $name (@names)
    {
        my $c = $case{$name};
        my $about = $c->{about} ? "$name: $c->{about}" : $name;
        my $bad = 0;
        is($state->{$name}, $c->{state} || 'succeeded', "$about: the run") or $bad++;
        is($message->{$name}, $c->{message}, "$name: the run's message") or $bad++ if defined $c->{message};
        is($tasks->{$name}, $c->{tasks}, "$about: the tasks") or $bad++ if defined $c->{tasks};
        is($items->{$name}, $c->{items}, "$about: the items") or $bad++ if defined $c->{items};
        is($told->{"$name/$_"}, $c->{told}{$_}, "$name: what $_ tells") or $bad++ for sort keys %{ $c->{told} || {} };
        is($attempts->{"$name/$_"}, $c->{attempts}{$_}, "$name: attempts of $_") or $bad++ for sort keys %{ $c->{attempts} || {} };
        is($steps->{$name}, $c->{steps}, "$name: the steps, in order") or $bad++ if defined $c->{steps};
        is($tries->{$name} || 0, $c->{tries}, "$name: the witness counts the tries") or $bad++ if defined $c->{tries};
        my $done = $trace{ $c->{on} || 'parent' }{$name} || '';
        $done = join ' ', sort split ' ', $done if $c->{any_order};
        is($done, $c->{trace}, "$about: what was really done") or $bad++ if defined $c->{trace};
        diag($f->dump_run($run{$name})) if $bad;
    }
    return;
}

# ---- precedence constraints --------------------------------------------------------------------

my %condition = (true => q{fleet.param('go') = 'yes'}, false => q{fleet.param('go') = 'no'}, null => q{fleet.param('nothing') = 'x'},
    seen => q{(SELECT count(*) FROM etl.trace WHERE key = 'condition' AND what = 'first') = 1}, unseen => q{EXISTS (SELECT FROM etl.trace WHERE key = 'nobody')});
my @kinds = sort keys %condition;
define('condition',
    [   first => mark('first'),
        (map { ("c_$_" => mark("c_$_"), "then_$_" => mark("then_$_", after => "{c_$_}"), "else_$_" => mark("else_$_", after_failure_of => "{c_$_}"), "both_$_" => mark("both_$_")) } @kinds),
        any => mark('any', wait_for => 'any'), all => mark('all') ],
    params => '{"go": "yes"}',
    sql => join(";\n", map { my $k = $_; (edge('condition', 'first', "c_$k", condition => $condition{$k}),
            edge('condition', "c_$k", "both_$k", on_outcome => 'completion'), edge('condition', "c_$k", 'any'), edge('condition', "c_$k", 'all')) } @kinds),
    about => 'what a condition does not let through is skipped, with all that follows, and is no failure',
    tasks => 'first=succeeded ' . join(' ', map { my $y = /^(?:true|seen)$/ ? 'succeeded' : 'skipped'; "c_$_=$y then_$_=$y else_$_=skipped both_$_=$y" } @kinds) . ' any=succeeded all=skipped',
    message => '', any_order => 1, trace => 'any both_seen both_true c_seen c_true first then_seen then_true');

for my $bad (
    [ error => '1 / (SELECT 0) = 1', 'division by zero' ],
    [ type => q{'rubbish'::text}, 'invalid input syntax for type boolean: "rubbish"' ],
    [ writing => 'etl.touch() = 1', 'cannot execute INSERT in a read-only transaction' ])
{
    my ($kind, $condition, $why) = @$bad;
    my $name = "condition_$kind";
    my $text = "the condition between \"first\" and \"t\" could not be evaluated: $why";
    define($name, [ first => mark('first'), t => mark('t'), after => mark('after', after => '{t}'), other => mark('other', after => '{first}') ],
        sql => edge($name, 'first', 't', condition => $condition),
        state => 'failed', message => "task \"t\" failed: $text", about => 'a condition that cannot be evaluated fails its task',
        tasks => 'first=succeeded t=failed after=skipped other=succeeded', told => { 't/0' => "F0001 $text" }, trace => 'first other');
    define("${name}_handled", [ first => mark('first'), t => mark('t', retries => 3), help => mark('help', after_failure_of => '{t}') ],
        sql => edge("${name}_handled", 'first', 't', condition => $condition),
        tasks => 'first=succeeded t=failed help=succeeded', attempts => { 't/0' => 0 }, trace => 'first help', message => '');
}

define('outcomes',
    [   good => mark('good'), bad => { sql => 'SELECT etl.fail(9)' },
        good_s => mark('good_s', after => '{good}'), good_f => mark('good_f', after_failure_of => '{good}'), good_c => mark('good_c'),
        bad_s => mark('bad_s', after => '{bad}'), bad_f => mark('bad_f', after_failure_of => '{bad}'), bad_c => mark('bad_c'),
        all_ss => mark('all_ss', after => '{good,bad}'), all_sf => mark('all_sf', after => '{good}', after_failure_of => '{bad}'),
        any_ss => mark('any_ss', after => '{good,bad}', wait_for => 'any'), any_none => mark('any_none', after => '{bad}', after_failure_of => '{good}', wait_for => 'any'),
        after_skipped => mark('after_skipped', after_failure_of => '{bad_s}'), completion_of_skipped => mark('x') ],
    sql => join(";\n", edge('outcomes', 'good', 'good_c', on_outcome => 'completion'), edge('outcomes', 'bad', 'bad_c', on_outcome => 'completion'),
        edge('outcomes', 'bad_s', 'completion_of_skipped', on_outcome => 'completion')),
    about => 'success, failure, completion; joined by all and by any',
    tasks => 'good=succeeded bad=failed good_s=succeeded good_f=skipped good_c=succeeded bad_s=skipped bad_f=succeeded bad_c=succeeded '
      . 'all_ss=skipped all_sf=succeeded any_ss=succeeded any_none=skipped after_skipped=skipped completion_of_skipped=skipped',
    message => '', told => { 'bad/0' => '22012 try 1' }, any_order => 1, trace => 'all_sf any_ss bad_c bad_f good good_c good_s');
define('unhandled', [ a => mark('a'), b => { sql => 'SELECT etl.fail(9)' }, c => mark('c', after => '{b}'), d => { sql => 'SELECT 1 / 0', after => '{a}' } ],
    sql => edge('unhandled', 'b', 'd', on_outcome => 'success'), about => 'a failure that nobody handles fails the run',
    state => 'failed', message => 'task "b" failed: try 1', tasks => 'a=succeeded b=failed c=skipped d=skipped', trace => 'a');

# ---- for_each ----------------------------------------------------------------------------------

my %each = (
    none    => [ q{SELECT '{"i": 1}'::jsonb WHERE false}, undef, 't=succeeded', '' ],
    null    => [ 'SELECT NULL::jsonb', '1=succeeded', 't=succeeded', '{}' ],
    jsonb   => [ q{SELECT jsonb_build_object('i', i) FROM generate_series(3, 1, -1) AS i}, '1=succeeded 2=succeeded 3=succeeded', 't=succeeded', '{"i": 3} {"i": 2} {"i": 1}' ],
    columns => [ q{VALUES (1, 'x', NULL::int), (2, 'y', 7)}, '1=succeeded 2=succeeded', 't=succeeded',
        '{"column1": 1, "column2": "x", "column3": null} {"column1": 2, "column2": "y", "column3": 7}' ],
    plain   => [ 'SELECT i AS n FROM generate_series(1, 2) AS i', '1=succeeded 2=succeeded', 't=succeeded', '{"n": 1} {"n": 2}' ],
    text    => [ q{SELECT '{"i": 1}'::text AS line}, '1=succeeded', 't=succeeded', '{"line": "{\\"i\\": 1}"}' ],
    boolean => [ 'SELECT true AS b', '1=succeeded', 't=succeeded', '{"b": true}' ],
    star    => [ 'SELECT * FROM (VALUES (1)) AS a (x), (VALUES (2)) AS b (y)', '1=succeeded', 't=succeeded', '{"x": 1, "y": 2}' ],
    param   => [ q{SELECT jsonb_build_object('n', i) FROM generate_series(1, fleet.param('many')::int) AS i}, '1=succeeded 2=succeeded', 't=succeeded', '{"n": 1} {"n": 2}' ]);
for my $kind (sort keys %each)
{
    my ($query, $items, $task, $params) = @{ $each{$kind} };
    define("each_$kind", [ t => mark('t', for_each => $query, throttle => 1, params => '{"many": 2}'), after => mark('after', after => '{t}'), bad => mark('bad', after_failure_of => '{t}') ],
        params => '{"many": 9}', about => "for_each: $kind", tasks => "$task after=succeeded bad=skipped", items => $items, each_params => $params,
        trace => join ' ', ('t') x (defined $items ? scalar(() = $items =~ /=/g) : 0), 'after');
    $case{"each_$kind"}{items_none} = 1 unless defined $items;
}
my %each_bad = (
    scalar  => [ q{SELECT '1'::jsonb}, 'row 1: not a JSON object: 1' ], unnamed => [ 'SELECT 1', 'column 1 of the query has no name' ],
    twice   => [ 'SELECT * FROM (VALUES (1)) AS a (x), (VALUES (2)) AS b (x)', 'two columns of the query are named "x"' ],
    array => [ q{SELECT '{"a": 1}'::jsonb UNION ALL SELECT '[2]'}, 'row 2: not a JSON object: [2]' ],
    error   => [ 'SELECT jsonb_build_object(\'i\', 1 / (2 - i)) FROM generate_series(1, 3) AS i', 'division by zero' ],
    writing => [ q{SELECT jsonb_build_object('i', etl.touch())}, 'cannot execute INSERT in a read-only transaction' ],
    cte     => [ q{WITH w AS (INSERT INTO etl.touched VALUES (2) RETURNING i) SELECT jsonb_build_object('i', i) FROM w}, 'cannot execute SELECT in a read-only transaction' ],
    number  => [ q{SELECT jsonb_build_object('i', nextval('etl.number'))}, 'cannot execute nextval() in a read-only transaction' ]);
for my $kind (sort keys %each_bad)
{
    my ($query, $why) = @{ $each_bad{$kind} };
    define("each_$kind", [ first => mark('first'), t => mark('t', for_each => $query, after => '{first}', retries => 2), after => mark('after', after => '{t}') ],
        state => 'failed', message => "task \"t\" failed: for_each: $why", tasks => 'first=succeeded t=failed after=skipped', items_none => 1,
        about => "for_each: $kind", told => { 't/0' => "F0001 for_each: $why" }, trace => 'first');
}
define('each_handled', [ t => mark('t', for_each => 'SELECT 1'), help => mark('help', after_failure_of => '{t}') ], tasks => 't=failed help=succeeded', trace => 'help', message => '');

# how many of the items must succeed
my $five = q{SELECT jsonb_build_object('i', i) FROM generate_series(1, 5) AS i};
my $odd = { sql => q{SELECT etl.mark('i' || (1 / (fleet.param('i')::int % 2))::text || fleet.param('i'))}, for_each => $five, throttle => 1 };
my $odd_items = '1=succeeded 2=failed 3=succeeded 4=failed 5=succeeded';
sub policy
{
    my ($name, $policy, $state, $items, $trace) = @_;
    my $ok = $state eq 'succeeded';
    define("policy_$name", [ t => { %$odd, %$policy }, after => mark('after', after => '{t}') ], about => 'completion policy',
        state => $state, message => $ok ? '' : 'task "t" item 2 failed: division by zero',
        tasks => $ok ? 't=succeeded after=succeeded' : 't=failed after=skipped', items => $items, trace => $trace . ($ok ? ' after' : ''));
    return;
}
policy('default', {}, 'failed', $odd_items, 'i11 i13 i15');
policy('continue', { completion => 'continue' }, 'failed', $odd_items, 'i11 i13 i15');
policy('fail_fast', { completion => 'fail_fast' }, 'failed', '1=succeeded 2=failed 3=canceled 4=canceled 5=canceled', 'i11');
policy('share_below', { completion => 'minimum_share', minimum_share => '0.59' }, 'succeeded', $odd_items, 'i11 i13 i15');
policy('share_equal', { completion => 'minimum_share', minimum_share => '0.6' }, 'succeeded', $odd_items, 'i11 i13 i15');
policy('share_above', { completion => 'minimum_share', minimum_share => '0.61' }, 'failed', $odd_items, 'i11 i13 i15');
policy('share_all', { completion => 'minimum_share', minimum_share => '1' }, 'failed', $odd_items, 'i11 i13 i15');
define('policy_share_none', [ t => { sql => 'SELECT 1 / 0', for_each => $five, completion => 'minimum_share', minimum_share => '0' } ], tasks => 't=succeeded',
    items => '1=failed 2=failed 3=failed 4=failed 5=failed', message => '');

# ---- retries and timeouts of tasks -------------------------------------------------------------

my %place = (here => sub { my ($sql) = @_; return { sql => $sql } });
sub at
{
    my ($place, $job, $sql, %more) = @_;
    return $place eq 'here' ? { sql => $sql, %more } : { job => $job, server => $place, %more };
}
define_job('fail2', { name => 's', sql => 'SELECT etl.fail(2)' });
define_job('fail9', { name => 's', sql => 'SELECT etl.fail(9)' });
define_job('sleep', { name => 's', sql => q{SELECT etl.witness('start'); SELECT pg_sleep(3600)} });
for my $place (qw(here a1 d1))
{
    my $on = $place eq 'here' ? 'parent' : $place;
    my $s = $place eq 'here' ? 't' : 's';
    define("retried_$place", [ t => at($place, 'fail2', 'SELECT etl.fail(2)', retries => 2, retry_wait => '0s', retry_sqlstates => '{22012}') ], on => $on,
        about => 'a task is tried again, and once more', tasks => 't=succeeded', attempts => { 't/0' => 3 }, tries => 3, trace => 'tried', told => { 't/0' => '' },
        steps => "${s}1=failed:22012 ${s}1=failed:22012 ${s}1=succeeded");
    define("exhausted_$place", [ t => at($place, 'fail9', 'SELECT etl.fail(9)', retries => 2, retry_wait => '0s', retry_sqlstates => '{22012}') ], on => $on,
        about => 'no more than "retries" times', state => 'failed', message => 'task "t" failed: try 3', attempts => { 't/0' => 3 }, tries => 3, trace => '', told => { 't/0' => '22012 try 3' });
    define("hopeless_$place", [ t => at($place, 'fail9', 'SELECT etl.fail(9)', retries => 5, retry_wait => '0s') ], on => $on,
        about => 'a wrong value does not get better by itself', state => 'failed', attempts => { 't/0' => 1 }, tries => 1, told => { 't/0' => '22012 try 1' });
    define("timeout_$place", [ t => at($place, 'sleep', q{SELECT etl.witness('start'); SELECT pg_sleep(3600)}, timeout => '300ms'), help => mark('help', after_failure_of => '{t}') ],
        about => 'a timeout is a failure', tasks => 't=failed help=succeeded', trace => 'help', told => { 't/0' => '57014 the task run was stopped because of its timeout' });
}
define('timeout_retried', [ t => { sql => 'SELECT pg_sleep(3600)', timeout => '200ms', retries => 1, retry_wait => '0s', retry_sqlstates => '{57014}' } ], state => 'failed',
    message => 'task "t" failed: the task run was stopped because of its timeout', attempts => { 't/0' => 2 }, told => { 't/0' => '57014 the task run was stopped because of its timeout' });
my %rule = (    # SQLSTATE raised, retry_sqlstates, tries
    class => [ '40P01', '{40}', 3 ], default_retried => [ '40001', undef, 3 ], default_own => [ 'ZX001', undef, 3 ], default_syntax => [ '42601', undef, 1 ], default_duplicate => [ '23505', undef, 1 ],
    default_feature => [ '0A000', undef, 1 ], default_login => [ '28000', undef, 1 ], excluded => [ '40001', '{!40001}', 1 ], others => [ '22012', '{!40001}', 3 ],
    class_but_one => [ '40001', '{40,!40001}', 1 ], not_listed => [ '40001', '{40P01}', 1 ]);
for my $kind (sort keys %rule)
{
    my ($state, $states, $tries) = @{ $rule{$kind} };
    define("rule_$kind", [ t => { sql => "SELECT etl.fail(9, '$state')", retries => 2, retry_wait => '0s', $states ? (retry_sqlstates => $states) : () } ],
        state => 'failed', tries => $tries, attempts => { 't/0' => $tries }, told => { 't/0' => "$state try $tries" });
}
define('item_retried', [ t => { sql => q{SELECT etl.fail(1, '40001', fleet.param('i'))}, for_each => $five, retries => 1, retry_wait => '0s' } ], about => 'each item has its own retries',
    items => join(' ', map { "$_=succeeded" } 1 .. 5), tries => 10, attempts => { map { ("t/$_" => 2) } 1 .. 5 });

# ---- steps -------------------------------------------------------------------------------------

my %job = (    # steps; state, trace, steps' states, SQLSTATE and message, tries
    order => [ [ { sql => q{SELECT etl.mark('one')} }, { sql => q{SELECT etl.mark('two')} }, { sql => q{SELECT etl.mark('three')} } ], 'succeeded', 'one two three', 's11=succeeded s21=succeeded s31=succeeded', '' ],
    goto_on_success => [ [ { sql => q{SELECT etl.mark('one')}, success_goto => 's3' }, { sql => q{SELECT etl.mark('two')} }, { sql => q{SELECT etl.mark('three')} } ], 'succeeded', 'one three', 's11=succeeded s31=succeeded', '' ],
    goto_on_failure => [ [ { sql => 'SELECT 1 / 0', failure_goto => 's3' }, { sql => q{SELECT etl.mark('two')} }, { sql => q{SELECT etl.mark('three')} } ], 'succeeded', 'three', 's11=failed:22012 s31=succeeded', '' ],
    goto_back => [ [ { sql => q{SELECT etl.mark('one')} }, { sql => 'SELECT etl.fail(2)', failure_goto => 's1' } ], 'succeeded', 'one one one tried', 's11=succeeded s21=failed:22012 s11=succeeded s21=failed:22012 s11=succeeded s21=succeeded', '', 3 ],
    not_taken => [ [ { sql => q{SELECT etl.mark('one')}, failure_goto => 's3', success_goto => 's2' }, { sql => q{SELECT etl.mark('two')}, on_success => 'quit_success' }, { sql => q{SELECT etl.mark('three')} } ], 'succeeded', 'one two', 's11=succeeded s21=succeeded', '' ],
    quit_success => [ [ { sql => 'SELECT 1 / 0', on_failure => 'quit_success' }, { sql => q{SELECT etl.mark('two')} } ], 'succeeded', '', 's11=failed:22012', '22012 division by zero' ],
    quit_failure => [ [ { sql => q{SELECT etl.mark('one')}, on_success => 'quit_failure' }, { sql => q{SELECT etl.mark('two')} } ], 'failed', 'one', 's11=succeeded', '' ],
    default_failure => [ [ { sql => 'SELECT 1 / 0' }, { sql => q{SELECT etl.mark('two')} } ], 'failed', '', 's11=failed:22012', '22012 division by zero' ],
    next_after_failure => [ [ { sql => 'SELECT 1 / 0', on_failure => 'next' }, { sql => q{SELECT etl.mark('two')} } ], 'succeeded', 'two', 's11=failed:22012 s21=succeeded', '' ],
    last_fails_next => [ [ { sql => q{SELECT etl.mark('one')} }, { sql => 'SELECT 1 / 0', on_failure => 'next' } ], 'succeeded', 'one', 's11=succeeded s21=failed:22012', '22012 division by zero' ],
    retries => [ [ { sql => 'SELECT etl.fail(2)', retries => 2, retry_wait => '0s', retry_sqlstates => '{22}' }, { sql => q{SELECT etl.mark('two')} } ], 'succeeded', 'tried two', 's11=failed:22012 s12=failed:22012 s13=succeeded s21=succeeded', '', 3 ],
    retries_over => [ [ { sql => 'SELECT etl.fail(9)', retries => 1, retry_wait => '0s', retry_sqlstates => '{22}' }, { sql => q{SELECT etl.mark('two')} } ], 'failed', '', 's11=failed:22012 s12=failed:22012', '22012 try 2', 2 ],
    retries_then_goto => [ [ { sql => 'SELECT etl.fail(9)', retries => 1, retry_wait => '0s', retry_sqlstates => '{22}', failure_goto => 's3' }, { sql => q{SELECT etl.mark('two')} }, { sql => q{SELECT etl.mark('three')} } ], 'succeeded', 'three', 's11=failed:22012 s12=failed:22012 s31=succeeded', '', 2 ],
    timeout => [ [ { sql => 'SELECT pg_sleep(3600)', timeout => '200ms', on_failure => 'next' }, { sql => q{SELECT etl.mark('two')} } ], 'succeeded', 'two', 's11=failed:57014 s21=succeeded', '' ],
    timeout_fails => [ [ { sql => 'SELECT pg_sleep(3600)', timeout => '200ms' }, { sql => q{SELECT etl.mark('two')} } ], 'failed', '', 's11=failed:57014', '57014 the step was stopped because of its timeout' ]);
for my $kind (sort keys %job)
{
    my ($steps, $state, $trace, $rows, $told, $tries) = @{ $job{$kind} };
    my $n = 0;
    define_job("steps_$kind", map { $n++; +{ name => "s$n", %$_ } } @$steps);
    for my $place (qw(a1 d1))
    {
        define("steps_${kind}_$place", [ t => { job => "steps_$kind", server => $place } ], on => $place, state => $state, trace => $trace, steps => $rows, told => { 't/0' => $told },
            defined $tries ? (tries => $tries) : (), about => 'steps');
    }
}

start_all();
# the same jobs, started here
my %started = map { my $kind = $_; ($kind => 0) } sort keys %job;
my @job_runs = split /\n/, $f->sql(join ";\n", map { "SELECT fleet.start_job('steps_$_', '{\"key\": \"start_$_\"}')" } sort keys %job);
@started{ sort keys %job } = @job_runs;
check_all();
my $ids = join ',', @job_runs;
$f->wait_for('parent', "SELECT count(*) FROM fleet.job_run WHERE job_run_id IN ($ids) AND finished_at IS NULL", '0', 'job runs that were started here have ended');
my $state = rows("SELECT job_run_id, state || ' ' || concat_ws(' ', sqlstate, message) FROM fleet.job_run WHERE job_run_id IN ($ids)");
my $steps = rows("SELECT job_run_id, string_agg(step || attempt || '=' || state || coalesce(':' || sqlstate, ''), ' ' ORDER BY started_at, attempt) FROM fleet.job_log WHERE job_run_id IN ($ids) GROUP BY 1");
my $here = rows(q{SELECT key, string_agg(what, ' ' ORDER BY id) FROM etl.trace GROUP BY 1});
for my $kind (sort keys %job)
{
    my (undef, $expected, $trace, $rows, $told) = @{ $job{$kind} };
    is($state->{ $started{$kind} }, "$expected $told", "start_job, $kind: the job run");
    is($steps->{ $started{$kind} }, $rows, "start_job, $kind: the steps, in order");
    is($here->{"start_$kind"} || '', $trace, "start_job, $kind: what was really done");
}

# items of the for_each cases: each with the parameters of its row, over the task's, over the run's
for my $kind (sort keys %each)
{
    my $params = $f->sql("SELECT coalesce(string_agg(params::text, ' ' ORDER BY item), '') FROM fleet.task_run WHERE run_id = $run{\"each_$kind\"} AND item > 0");
    is($params, $each{$kind}[3], "for_each, $kind: the rows are the items' parameters");
    is($f->sql("SELECT count(*) FROM etl.trace WHERE key = 'each_$kind' AND what = 't' AND params ->> 'many' IS DISTINCT FROM '2'"), '0', "for_each, $kind: under them the task's, then the run's");
}
is($f->sql('SELECT count(*) FROM etl.touched'), '0', 'no condition and no for_each wrote anything');
is($f->sql(q{SELECT is_called FROM etl.number}), 'f', 'not even a sequence');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE item > 0 AND run_id IN (" . join(',', map { $run{$_} } grep { $case{$_}{items_none} } @order) . ')'), '0', 'where a for_each gave nothing, or failed, there are no items');
# a failure that no step tells has its line in the log
is($f->sql("SELECT string_agg(concat_ws(' ', task, item, seq, level, sqlstate, message), ',') FROM fleet.log WHERE run_id = $run{each_error} AND task = 't'"),
    '' . join(' ', 't', 0, 1, 'ERROR', 'F0001', 'for_each: division by zero'), 'a for_each that failed has its line in the log');
is($f->sql("SELECT string_agg(concat_ws(' ', task, item, seq, level, sqlstate, message), ',') FROM fleet.log WHERE run_id = $run{condition_error} AND task = 't'"),
    't 0 1 ERROR F0001 the condition between "first" and "t" could not be evaluated: division by zero', 'so has a condition');
for my $server (qw(parent a1 d1))
{
    is($f->sql_on($server, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND state = 'active' AND pid <> pg_backend_pid()}), '0', "$server: what ran out of time does not run on");
}

# ---- what needs somebody to hold it ------------------------------------------------------------

define_job('hold', { name => 's', sql => 'SELECT etl.work_until_released()' });
# Two jobs whose step fails before it is sent, and that go back to it each time: one here, one over a
# link of mode direct.
$f->sql('CREATE ROLE leaver; GRANT leaver TO etl');
$f->sql_as('etl', q{SELECT fleet.create_job('round_role'); SELECT fleet.add_step('round_role', 's1', 'SELECT 1', run_as => 'leaver', failure_goto => 's1')});
$f->sql('DROP ROLE leaver');
my $round_role = $f->sql_as('etl', q{SELECT fleet.start_job('round_role')});
define_job('round', { name => 's1', sql => 'SELECT 1', success_goto => 's1' });
my $two = q{SELECT jsonb_build_object('i', i, 'key', 'ff_' || fleet.param('place') || i) FROM generate_series(1, 2) AS i};
define_job('hold_or_fail', { name => 's', sql => q{DO $$BEGIN IF current_setting('fleet.params')::jsonb ->> 'i' = '2' THEN
    WHILE (SELECT n FROM public.dblink('host=127.0.0.1 port=} . $witness . q{ dbname=witness user=witness password=witness',
        'SELECT count(*) FROM event WHERE what = ''start'' AND key = ''ff_' || (current_setting('fleet.params')::jsonb ->> 'place') || '1''') AS t(n bigint)) = 0 LOOP PERFORM pg_sleep(0.02); END LOOP;
    RAISE EXCEPTION 'the second one'; END IF; END$$; SELECT etl.work_until_released()} });
define('join_any', [ quick => mark('quick'), slow => { sql => 'SELECT etl.work_until_released()', params => '{"key": "join_any_slow"}' }, any => mark('any', after => '{quick,slow}', wait_for => 'any'), all => mark('all', after => '{quick,slow}') ],
    about => 'a join by any starts at the first, once', tasks => 'quick=succeeded slow=succeeded any=succeeded all=succeeded', trace => 'quick any all');
for my $place (qw(a1 d1))
{
    define("started_$place", [ t => { job => 'hold', server => $place, completion => 'started' }, after => mark('after', after => '{t}') ],
        about => 'fire and forget', tasks => 't=succeeded after=succeeded', trace => 'after');
    define("fail_fast_$place", [ t => { job => 'hold_or_fail', server => $place, for_each => $two, completion => 'fail_fast' } ], params => qq({"place": "$place"}),
        about => 'fail_fast stops what runs', state => 'failed', message => 'task "t" item 2 failed: the second one', items => '1=canceled 2=failed');
}
define('round_d1', [ t => { job => 'round', server => 'd1' } ], state => 'failed', told => { 't/0' => q{54001 the job's steps went round too often} }, message => q{task "t" failed: the job's steps went round too often});
define('round_nested', [ t => { job => 'round_nested', server => 'd1' } ], state => 'failed', told => { 't/0' => q{54001 the job's steps went round too often} },
    about => 'a package step on a direct server is never sent', sql => q{SELECT fleet.create_job('round_nested'); SELECT fleet.add_step('round_nested', 's1', package => 'join_any', failure_goto => 's1')});
define('waits', [ zero => { sql => 'SELECT etl.fail(1)', retries => 1, retry_wait => '0s', retry_sqlstates => '{22}' },
        hour => { sql => 'SELECT 1 / 0', retries => 2, retry_wait => '1h', retry_wait_max => '1d', retry_sqlstates => '{22}' }, capped => { sql => 'SELECT 1 / 0', retries => 2, retry_wait => '1d', retry_wait_max => '1h', retry_sqlstates => '{22}' } ],
    state => 'canceled', tasks => 'zero=succeeded hour=canceled capped=canceled', attempts => { 'hour/0' => 1, 'capped/0' => 1, 'zero/0' => 2 });
start_all();

$f->wait_for('parent', q{SELECT count(*) FROM etl.trace WHERE key = 'join_any' AND what = 'any'}, '1', 'join any: it ran');
is($f->sql("SELECT string_agg(task || '=' || state, ' ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run{join_any} AND task IN ('slow', 'all')"), 'slow=running all=queued', 'while the other one still runs');
$f->release('join_any_slow');

for my $place (qw(a1 d1))
{
    $f->run_is($run{"started_$place"}, 'succeeded', "started, $place: the run ends");
    is($f->witnessed("started_$place", 'end'), 0, 'while the job still runs');
    $f->release("started_$place");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'end' AND key = 'started_$place'", '1', "started, $place: the job goes on to its end");
    $f->wait_for($place, "SELECT count(*) FROM etl.effect WHERE key = 'started_$place'", '1', "started, $place: and leaves what it did, once");
    is($f->witnessed("started_$place", 'start'), 1, "started, $place: it was started once");
}

# a retry that is not due yet waits; how long, is in its row
$f->wait_for('parent', "SELECT string_agg(task || '=' || state, ' ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run{waits}", 'zero=succeeded hour=retrying capped=retrying', 'retries: the one without a wait is done, the others wait');
is($f->sql("SELECT string_agg((retry_at - started_at BETWEEN '48 min' AND '75 min')::text, ' ') FROM fleet.task_run WHERE run_id = $run{waits} AND retry_at IS NOT NULL"), 'true true', 'an hour, give or take a fifth; retry_max caps it');
is($f->sql("SELECT string_agg(coalesce(finished_at::text, 'none') || sqlstate, ' ') FROM fleet.task_run WHERE run_id = $run{waits} AND state = 'retrying'"), 'none22012 none22012', 'it has not finished, and tells why it is tried again');
is($f->sql("SELECT fleet.cancel_run($run{waits})"), 't', 'and can be canceled');

check_all();
is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $run{round_d1}"), '10000', 'a job that goes round for ever ends after 10,000 steps');
is($f->sql("SELECT seq || ' ' || level || ' ' || sqlstate || ' ' || message FROM fleet.log WHERE run_id = $run{round_d1} ORDER BY seq DESC LIMIT 1"), q{20001 ERROR 54001 the job's steps went round too often}, 'and the log says why');
$f->wait_for('parent', "SELECT concat_ws('|', state, sqlstate, message) FROM fleet.job_run WHERE job_run_id = $round_role", q{failed|54001|the job's steps went round too often}, 'the same of a job whose step has lost its role');
is($f->sql("SELECT count(*) || ' ' || min(sqlstate) FROM fleet.job_log WHERE job_run_id = $round_role"), '10000 42704', 'each time for that reason');
is($f->sql("SELECT count(*) || ' ' || min(sqlstate) FROM fleet.job_log WHERE run_id = $run{round_nested}"), '10000 0A000', 'and of one with a package step on a direct server');
for my $place (qw(a1 d1))
{
    is($f->witnessed("ff_${place}1", 'start') . $f->witnessed("ff_${place}1", 'end') . $f->effects($place, "ff_${place}1"), '100', "fail_fast, $place: the item that ran was stopped, and left nothing");
}
$f->done;
