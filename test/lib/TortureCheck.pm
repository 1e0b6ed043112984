# TortureCheck.pm
#     What must hold after a round of the torture, when its faults have ended and every run has: what the
#     rows say is held against effects in the servers' own tables and against the witness's word.
package TortureCheck;

use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;

my %epochs;    # the highest that each child has seen
my %logs;      # how far each server's log has been read

# What can end work that cannot fail by itself, where somebody takes its ground away.
my $GROUND = qr/^(?:08...|28...|2F003|42501|42704|42883|3D000|3F000|57P0.|55000)$/;

# check(fleet, plan, what was done): list of what is wrong
sub check
{
    my ($f, $plan, $done) = @_;
    my @wrong;
    my $tasks = task_rows($f, $plan);
    # what is nested may be stopped with what is around it
    $done->{stops} = grep { $_->{kind} eq 'nested' && ($_->{args}{timeout} || ($_->{args}{completion} || '') eq 'fail_fast') } values %{ $plan->{tasks} };
    my %effects = effects($f);
    push @wrong, map { task_is_wrong($plan, $done, $_, \%effects) } @$tasks;
    push @wrong, map { "an effect of no task, or one too many: $_ on " . join ' ', sort @{ $effects{$_} } } sort grep { @{ $effects{$_} } } keys %effects;
    push @wrong, graph_is_wrong($plan, $done, $tasks), runs_are_wrong($f, $plan, $done);
    push @wrong, too_late($f, grep { (($plan->{tasks}{ $_->{task} } || {})->{args}{completion} || '') ne 'started' } @$tasks);
    push @wrong, nodes_are_wrong($f, $done);
    return @wrong;
}

sub rows
{
    my ($f, $node, $sql) = @_;
    return map { [ split /\t/, $_, -1 ] } split /\n/, TortureFaults::statement($f, $node, $sql);
}

# A text without what separates columns here.
sub columns { return join q{ || E'\t' || }, map { "coalesce(translate(($_)::text, E'\\n\\t', '  '), '')" } @_; }

# ---- tasks and their effects ---------------------------------------------------------------------

sub task_rows
{
    my ($f, $plan) = @_;
    my @names = qw(run key o task item state server attempt sqlstate message finished run_state package parent_run);
    my @rows = rows($f, 'parent', 'SELECT ' . columns('r.run_id', q{r.params ->> 'key'}, q{coalesce(r.params ->> 'o', '0')}, 't.task', 't.item', 't.state',
            't.server', 't.attempt', 't.sqlstate', 't.message', 'extract(epoch FROM t.finished_at)', 'r.state', 'r.package', 'r.parent_run_id')
          . " FROM fleet.run AS r JOIN fleet.task_run AS t USING (run_id) WHERE r.params ->> 'key' LIKE '$plan->{key}.%' ORDER BY r.run_id, t.task_no, t.item");
    return [ map { my %row; @row{@names} = @$_; $row{at} = "$row{key}/$row{task}/$row{o}/$row{item}"; \%row } @rows ];
}

# key => [ servers on which it is, once for each time ]
sub effects
{
    my ($f) = @_;
    my %effects;
    for my $node ('parent', $f->children)
    {
        push @{ $effects{ $_->[0] } }, $node for rows($f, $node, 'SELECT key FROM etl.effect');
    }
    return %effects;
}

# What is wrong with a task's outcome and its effects; these are taken out of the hash.
sub task_is_wrong
{
    my ($plan, $done, $row, $effects) = @_;
    my $mate = $row->{package} eq 'mates';
    my $task = $mate ? { does => 'work', kind => 'job', items => 3, args => {} } : $plan->{tasks}{ $row->{task} };
    return "a task of another version: $row->{at}" unless $task;
    return if $task->{kind} eq 'nested' || defined $task->{items} && $row->{item} == 0;
    my $job = $TorturePlan::JOB{ $task->{does} };
    my $told = "$row->{at} ($task->{does}) is $row->{state} $row->{sqlstate} $row->{message}, attempt $row->{attempt} on " . ($row->{server} || 'parent');
    my @wrong;
    my $state = $row->{state};
    my $started = ($task->{args}{completion} || '') eq 'started';
    my %known = map { $row->{at} . $_ => 1 } @{ $job->{effects} };
    for my $key (grep { index($_, $row->{at}) == 0 && !$known{$_} && substr($_, length $row->{at}) =~ m{^(?:\z|/[a-z0-9]\z)} } keys %$effects)
    {
        push @wrong, "$told: the effect $key is there" if @{ $effects->{$key} };
        $effects->{$key} = [];
    }
    for my $key (sort keys %known)
    {
        my @there = @{ $effects->{$key} || [] };
        $effects->{$key} = [];
        my ($least, $most) = (0, 1);
        $least = 1 if $state eq 'succeeded' && !$started;
        $most = 0 if $state =~ /^(?:failed|canceled|skipped)$/ && !$job->{partly} && !$started;
        push @wrong, "$told: " . @there . " effects $key on @there" if @there < $least || @there > $most;
        push @wrong, "$told: its effect is on @there" if $state eq 'succeeded' && grep { $_ ne ($row->{server} || 'parent') } @there;
    }
    push @wrong, "$told, which cannot be" if $state eq 'succeeded' && $job->{never} && !$started;
    push @wrong, "$told, and nothing that was done to it allows that" unless may_be($done, $task, $job, $row, $mate);
    return @wrong;
}

# Whether what was done in this round lets a task have this outcome.
sub may_be
{
    my ($done, $task, $job, $row, $mate) = @_;
    my ($state, $sqlstate) = @$row{qw(state sqlstate)};
    my $lethal = $mate ? $done->{servers_touched} : $done->{lethal};
    return 1 if $state eq 'succeeded' || $state eq 'skipped';
    return 1 if $state eq 'canceled' && ($done->{canceled} || $done->{stops} || ($task->{args}{completion} || '') eq 'fail_fast');
    return 1 if $state eq 'lost' && ($lethal || $done->{long});
    # VACUUM's kind; or a direct server that has crashed cannot be believed (guarantee 3)
    return 1 if $state eq 'unknown' && ($job->{cut} || $done->{crashed}{d1} && ($row->{server} eq 'd1' || $mate));
    return 0 unless $state eq 'failed';
    return 1 if $job->{never} && $sqlstate eq $job->{never};
    # what fails by itself while it is to be stopped is not tried again
    return 1 if $task->{does} =~ /^(?:flaky|again)$/ && $sqlstate eq '40001' && ($done->{canceled} || $done->{stops} || $task->{args}{completion} || $task->{args}{timeout});
    return 1 if $task->{args}{timeout} && $sqlstate eq '57014';
    return 1 if $lethal && $sqlstate =~ $GROUND;
    return 1 if $done->{disk} && $sqlstate =~ /^(?:53100|58030|08006|57P0.)$/;
    # a step whose process has ended three times is not tried again
    return 1 if $done->{ends} >= 3 && $sqlstate =~ /^(?:57P01|08006)$/;
    return 0;
}

# ---- graphs and runs ---------------------------------------------------------------------------

sub graph_is_wrong
{
    my ($plan, $done, $tasks) = @_;
    my (@wrong, %whole, %items);
    for my $row (@$tasks)
    {
        if ($row->{item} == 0) { $whole{ $row->{run} }{ $row->{task} } = $row; }
        else { push @{ $items{ $row->{run} }{ $row->{task} } }, $row; }
    }
    my %packages = map { $_->{name} => $_ } @{ $plan->{packages} };
    for my $run (sort { $a <=> $b } keys %whole)
    {
        my ($any) = values %{ $whole{$run} };
        my $package = $packages{ $any->{package} } or next;
        my $canceled = $any->{run_state} eq 'canceled';
        push @wrong, "run $run of $package->{name} has the tasks " . join ' ', sort keys %{ $whole{$run} }
          if "@{[ sort keys %{ $whole{$run} } ]}" ne "@{[ sort map { $_->{name} } @{ $package->{tasks} } ]}";
        for my $task (@{ $package->{tasks} })
        {
            my $row = $whole{$run}{ $task->{name} } or next;
            my @edges = map { edge_holds($_, $whole{$run}{ $_->{from} }) } grep { $_->{to} eq $task->{name} } @{ $package->{edges} };
            my $held = grep { $_ } @edges;
            my $ready = !@edges || ($task->{args}{wait_for} ? $held > 0 : $held == @edges);
            my $told = "$row->{at} of run $run is $row->{state}, with $held of " . @edges . ' constraints that hold';
            push @wrong, $told if $row->{state} eq 'skipped' && $ready && !$canceled;
            push @wrong, $told if $row->{state} !~ /^(?:skipped|canceled)$/ && !$ready;
            push @wrong, items_are_wrong($task, $row, $items{$run}{ $task->{name} } || []) if defined $task->{items};
        }
        my $handled = sub { my ($name) = @_; return grep { $_->{from} eq $name && $_->{on} ne 'success' } @{ $package->{edges} }; };
        my @bad = grep { $_->{state} =~ /^(?:failed|lost|unknown)$/ && !$handled->($_->{task}) } values %{ $whole{$run} };
        push @wrong, "run $run of $package->{name} has succeeded, and $bad[0]{at} is $bad[0]{state}" if @bad && $any->{run_state} eq 'succeeded';
        push @wrong, "run $run of $package->{name} has failed, and none of its tasks" if $any->{run_state} eq 'failed'
          && !grep { $_->{state} =~ /^(?:failed|lost|unknown|canceled)$/ } values %{ $whole{$run} };
    }
    return @wrong;
}

sub edge_holds
{
    my ($edge, $row) = @_;
    my $outcome = { succeeded => 'success', failed => 'failure', lost => 'failure', unknown => 'failure' }->{ $row->{state} } or return 0;
    return 0 if ($edge->{condition} || '') eq 'false';
    return $edge->{on} eq 'completion' || $edge->{on} eq $outcome ? 1 : 0;
}

sub items_are_wrong
{
    my ($task, $row, $items) = @_;
    return if $row->{state} ne 'succeeded';
    my $good = grep { $_->{state} eq 'succeeded' } @$items;
    my $least = $task->{items} * ($task->{args}{minimum_share} || 1);
    return if @$items == $task->{items} && $good >= $least;
    return "$row->{at} has succeeded with $good good ones of " . @$items . " items of $task->{items}";
}

sub runs_are_wrong
{
    my ($f, $plan, $done) = @_;
    my @wrong;
    my %run = map { $_->[0] => $_ } rows($f, 'parent', 'SELECT ' . columns('run_id', 'run_key', 'state') . " FROM fleet.run WHERE run_key LIKE '$plan->{key}.%'");
    for my $request (@{ $plan->{requests} })
    {
        next unless $request->{run};
        my $row = $run{ $request->{run} };
        push @wrong, "run $request->{run} of $request->{key} was promised and is not there" if !$row || $row->[1] ne $request->{key};
        push @wrong, "run $request->{run} is canceled, which nobody has asked for" if $row && $row->[2] eq 'canceled' && !$request->{canceled};
    }
    # nested: as the task says
    push @wrong, map { "the run nested in @$_" } rows($f, 'parent', 'SELECT ' . columns('t.run_id', 't.task', 't.item', 't.state', 'n.state')
          . ' FROM fleet_catalog.run AS c0 JOIN fleet.run AS n USING (run_id) JOIN fleet_catalog.task_run AS c ON c.run_id = c0.parent_run_id AND c.task_no = c0.parent_task_no'
          . ' AND c.item = c0.parent_item JOIN fleet.task_run AS t ON t.run_id = c.run_id AND t.task_no = c.task_no AND t.item = c.item'
          . " WHERE n.params ->> 'key' LIKE '$plan->{key}.%' AND n.state <> t.state AND NOT (t.state = 'failed' AND n.state = 'canceled' AND t.sqlstate = '57014')");
    return @wrong;
}

# Nothing is done after it was said to have stopped.  (What a body has sent to the witness is sent.)
# Where a right is taken away nobody may ask the server any more: its session ends by itself, and never commits.
sub too_late
{
    my ($f, @tasks) = @_;
    my %last = map { $_->[0] => $_->[1] } rows($f, 'witness', 'SELECT ' . columns('key', 'max(extract(epoch FROM at))') . ' FROM event GROUP BY key');
    return map { sprintf '%s was %s %.1f s before its body ended', $_->{at}, $_->{state}, $last{ $_->{at} } - $_->{finished} }
      grep { $_->{state} =~ /^(?:canceled|failed|succeeded)$/ && $last{ $_->{at} } && $last{ $_->{at} } > $_->{finished} + 1.5 }
      grep { !($_->{state} eq 'failed' && $_->{sqlstate} =~ $GROUND) } @tasks;
}

# ---- servers -----------------------------------------------------------------------------------

my %QUERIES = (
    'open runs'            => [ '0', 'SELECT count(*) FROM fleet_catalog.run WHERE state < 11' ],
    'open tasks'           => [ '0', 'SELECT count(*) FROM fleet_catalog.task_run WHERE state < 11' ],
    'open job runs'        => [ '0', 'SELECT count(*) FROM fleet_catalog.job_run WHERE state < 11 OR finished_at IS NULL' ],
    'open steps'           => [ '0', 'SELECT count(*) FROM fleet_catalog.step_run WHERE state < 11' ],
    'logs with a gap'      => [ '0', $FleetTest::LOGS_WITH_A_GAP ],
    'objects in quarantine' => [ '0', 'SELECT count(*) FROM fleet_catalog.quarantine' ],
    agents                 => [ '1', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw'" ],
    'runners at work'      => [ '0', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%' AND xact_start IS NOT NULL" ]);
my %EVERYWHERE = (
    'prepared transactions' => [ '0', 'SELECT count(*) FROM pg_prepared_xacts' ],
    'waiting for a lock'    => [ '0', 'SELECT count(*) FROM pg_locks WHERE NOT granted' ],
    'sessions of links in a transaction' => [ '0', q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%' AND (state LIKE 'idle in%' OR query LIKE '%etl.%' AND state = 'active')} ]);

sub nodes_are_wrong
{
    my ($f, $done) = @_;
    my @wrong;
    for my $node ('parent', $f->children)
    {
        my %queries = (%EVERYWHERE, $node eq 'parent' || $f->mode($node) eq 'agent' ? %QUERIES : ());
        push @wrong, map { my $got = Torture::until_is($f, $node, $queries{$_}[1], $queries{$_}[0]); defined $got ? "$node: $_: $got" : () } sort keys %queries;
        push @wrong, log_is_wrong($f, $node);
        next unless exists $queries{agents};
        my ($sqlstate, $error) = split /\|/, TortureFaults::statement($f, $node, 'SELECT last_sqlstate, last_error FROM fleet.agent_status()');
        push @wrong, "$node: an agent has ended by $sqlstate: $error" if ($sqlstate // '') !~ /^(?:|57P0.)$/ && $error !~ /^test point/ && !($done->{disk} && $node eq 'a2');
        push @wrong, size_is_wrong($f, $node);
        next if $node eq 'parent';
        for my $row (rows($f, $node, 'SELECT ' . columns('role', 'epoch') . ' FROM fleet_catalog.parent'))
        {
            my $seen = \$epochs{"$node $row->[0]"};
            push @wrong, "$node: the epoch of $row->[0] has gone back from $$seen to $row->[1]" if ($$seen || 0) > $row->[1];
            $$seen = $row->[1];
        }
    }
    return @wrong;
}

# Memory and connections of an agent at rest.
sub size_is_wrong
{
    my ($f, $node) = @_;
    my $pid = $f->agent_pid($node) or return "$node: no agent";
    my $sockets = grep { (readlink $_ // '') =~ /^socket/ } glob "/proc/$pid/fd/*";
    my $kb = eval { FleetTest::proc_status($pid, 'RssAnon') } // 0;
    return (($sockets > 60 ? "$node: the agent has $sockets connections" : ()), ($kb > 60_000 ? "$node: the agent has $kb kB of memory" : ()));
}

sub log_is_wrong
{
    my ($f, $node) = @_;
    my $file = $f->node($node)->logfile;
    my $text = slurp_file($file, $logs{$file} || 0);
    $logs{$file} += length $text;
    # a crash of ours is signal 9, and what is killed at once says nothing; a full disk is a PANIC of PostgreSQL's own
    my @bad = grep { !/terminated by signal 9/ && !/PANIC.*No space left/ && !(/terminated by signal 6/ && $text =~ /No space left/) }
      $text =~ /^.*(?:PANIC|TRAP:|terminated by signal|reference leak|leaked|AddressSanitizer|runtime error).*$/mg;
    return map { "$node: $_" } @bad;
}

1;
