# TorturePlan.pm
#     What a round of the torture does, drawn from its seed before it begins: packages, requests, and what
#     happens to whom and when.  No clock and no server is asked here, so that a seed draws the same again.
#     Times are numbers of witnessed starts ("at"), since a machine is not equally fast twice.
#
#     A task is known by its name, which no other task of the round has, also not in nested packages.
package TorturePlan;

use strict;
use warnings;

# What a job does; "effects": the endings of the keys that are there once where it succeeded.
#   partly    an end other than success may leave some of its effects: it has several transactions
#   never     it does not succeed; with this SQLSTATE
#   agents    not on servers of mode direct
our %JOB = (
    work   => { effects => [''] },
    talk   => { effects => [''] },
    flaky  => { effects => [''] },
    again  => { effects => [''] },
    slow   => { effects => [''] },
    stay   => { effects => [''] },
    two    => { effects => [ '/1', '/2' ], partly => 1 },
    branch => { effects => ['/c'], partly => 1 },
    proc   => { effects => [''], partly => 1, cut => 1 },
    child  => { effects => [ '/x', '/y' ], partly => 1, agents => 1 },
    fail   => { effects => [], never => 'P0001' },
    late   => { effects => [], never => '57014' });

# Kinds of faults: how often; "lethal": work may fail by it, with a reason; "long": work may be lost by it.
our %FAULT = (
    terminate => { often => 8 },
    kill      => { often => 5 },
    restart   => { often => 4 },
    down      => { often => 3 },
    freeze    => { often => 5 },
    sleep     => { often => 5 },
    cut       => { often => 5 },
    hole      => { often => 4 },
    half      => { often => 2 },
    delay     => { often => 2 },
    drop      => { often => 3 },
    match     => { often => 6 },
    strand    => { often => 3 },
    point     => { often => 16 },
    stop      => { often => 4 },
    full      => { often => 3 },
    crowd     => { often => 3 },
    promote   => { often => 3 },
    zombie    => { often => 2 },
    disk      => { often => 2 },
    away      => { often => 1, long => 1 },
    mapping   => { often => 3, lethal => 1 },
    usage     => { often => 2, lethal => 1 },
    password  => { often => 2, lethal => 1 },
    nologin   => { often => 2, lethal => 1 },
    rename    => { often => 2, lethal => 1 },
    elsewhere => { often => 2, lethal => 1 },
    unmapped  => { often => 1, lethal => 1 },
    dropped   => { often => 1, lethal => 1 });

our @POINTS = qw(agent_before_messages agent_before_commit agent_after_commit step_before_send step_after_send step_prepared
  step_before_send_commit step_after_send_commit step_committed step_before_resolve step_before_nested task_before_nested
  items_next_slice remote_before_start remote_before_cancel link_before_send link_has_read ring_before_write ring_read
  runner_started runner_begun runner_query_row runner_before_prepared runner_before_commit runner_after_commit);

sub chance { my ($p) = @_; return rand() < $p; }
sub between { my ($from, $to) = @_; return $from + int rand($to - $from + 1); }
sub pick { return $_[ int rand @_ ]; }

# pick_weighted(name => weight, …)
sub pick_weighted
{
    my @list = @_;
    my $sum = 0;
    $sum += $list[ 2 * $_ + 1 ] for 0 .. @list / 2 - 1;
    my $at = rand $sum;
    while (my ($name, $weight) = splice @list, 0, 2)
    {
        return $name if ($at -= $weight) < 0;
    }
    return;
}

# draw(seed, round, only => [kinds of faults], brief => 1 (nothing that lasts), calm => 1 (no faults)): a reference to all of it
sub draw
{
    my ($seed, $round, %opt) = @_;
    srand(($seed * 1_000_003 + $round * 7_919) % 2_147_483_647);
    my $name = "$seed-$round" . ($opt{again} ? "-$opt{again}" : '');
    my $plan = { round => $round, key => "k$name", name => "p$name", tasks => {}, packages => [], requests => [], actions => [] };
    my @tops = map { draw_package($plan, 0) } 1 .. between(2, 4);
    my $n = between(3, 7);
    for my $i (1 .. $n)
    {
        push @{ $plan->{requests} }, { package => pick(@tops), key => "$plan->{key}.$i", at => $i <= 2 ? 0 : between(0, 40) };
    }
    # another role, whom what happens to the first one's rights does not concern
    push @{ $plan->{requests} }, { package => 'mates', key => "$plan->{key}.m$_", at => between(0, 40), mate => 1 } for 1 .. 2;
    draw_actions($plan, %opt);
    return $plan;
}

sub draw_package
{
    my ($plan, $depth, $each) = @_;
    my $package = { name => "$plan->{name}-" . @{ $plan->{packages} }, tasks => [], edges => [] };
    push @{ $plan->{packages} }, $package;
    for my $i (1 .. between(2, $depth ? 4 : 6))
    {
        my $task = draw_task($plan, $depth, $each);
        $task->{package} = $package->{name};
        for my $from (@{ $package->{tasks} })
        {
            next unless chance(0.3) && (grep { $_->{to} eq $task->{name} } @{ $package->{edges} }) < 3;
            push @{ $package->{edges} }, {
                from => $from->{name}, to => $task->{name},
                on => pick_weighted(success => 6, failure => 2, completion => 3),
                condition => chance(0.15) ? pick('true', 'false', q{fleet.param('key') <> ''}) : undef };
        }
        $task->{args}{wait_for} = 'any' if chance(0.25);
        push @{ $package->{tasks} }, $task;
        $plan->{tasks}{ $task->{name} } = $task;
    }
    # what is nested exists before what it is nested in
    @{ $plan->{packages} } = ((grep { $_ != $package } @{ $plan->{packages} }), $package);
    return $package->{name};
}

sub draw_task
{
    my ($plan, $depth, $each) = @_;
    my $name = 't' . ++$plan->{names};
    my %args = (params => qq({"t": "$name"}));
    my $kind = pick_weighted(job => 10, sql => 3, nested => $depth < 2 ? 2 : 0);
    my $items;
    if (chance(0.35) && !($kind eq 'nested' && $each))
    {
        $items = chance(0.05) ? 0 : between(1, $kind eq 'nested' ? 3 : 10);
        $args{for_each} = sprintf q{SELECT jsonb_build_object('%s', n) FROM generate_series(1, %d) AS n}, $kind eq 'nested' ? 'o' : 'i', $items;
        $args{throttle} = between(0, 3);
        $args{completion} = pick_weighted(continue => 6, fail_fast => 2, minimum_share => 2);
        $args{minimum_share} = '0.5' if $args{completion} eq 'minimum_share';
    }
    my $task = { name => $name, kind => $kind, args => \%args, items => $items };
    if ($kind eq 'nested')
    {
        $args{nested} = draw_package($plan, $depth + 1, $each || defined $items);
        return $task;
    }
    my $job = $kind eq 'sql'
      ? pick_weighted(work => 6, talk => 2, slow => 2, fail => 1)
      : pick_weighted(work => 8, talk => 3, flaky => 3, again => 2, slow => 3, stay => defined $items ? 0 : 3, two => 3, branch => 2, proc => 2, child => 2, fail => 2, late => 1);
    $task->{does} = $job;
    if ($kind eq 'sql')
    {
        $args{sql} = "SELECT etl.$job()";
    }
    else
    {
        $args{job} = $job;
        @args{ chance(0.5) ? 'server' : 'on_group' } = ();
        $args{server} = $JOB{$job}{agents} ? pick(qw(a1 a2)) : pick(qw(a1 a2 d1)) if exists $args{server};
        $args{on_group} = $JOB{$job}{agents} ? 'agents' : pick(qw(agents all all direct)) if exists $args{on_group};
        $args{balance} = pick(qw(shortest_finish least_loaded round_robin weighted)) if chance(0.3);
        # (on a direct server, the agent's end is the end of such a job: doc/guarantees.md, 5)
        my $on_agents = ($args{server} || $args{on_group}) =~ /^a[12]$|^agents$/;
        $args{completion} = 'started' if chance(0.04) && !defined $items && $on_agents;
    }
    @args{qw(retries retry_wait)} = (between(1, 2), '20ms') if chance(0.25) && !$JOB{$job}{partly};
    @args{qw(retries retry_wait)} = (2, '20ms') if $job eq 'again';    # it is the task's second attempt that succeeds
    $args{timeout} = between(2, 15) * 100 . 'ms' if chance(0.08);
    return $task;
}

# What happens, and when.  Some rounds have nothing that lets work fail, so that in these all must succeed that can.
sub draw_actions
{
    my ($plan, %opt) = @_;
    my $lethal = chance(0.3);
    my %often = map { $_ => $FAULT{$_}{often} } grep { ($lethal || !$FAULT{$_}{lethal}) && ($lethal || chance(0.1) || !$FAULT{$_}{long}) } sort keys %FAULT;
    delete @often{ grep { $FAULT{$_}{long} } keys %often } if $opt{brief};
    %often = map { $_ => $FAULT{$_}{often} } @{ $opt{only} } if $opt{only};
    my $at = 0;
    for (1 .. ($opt{calm} ? 0 : between(2, 7)))
    {
        $at += chance(0.3) ? 0 : between(1, 25);
        my $kind = pick_weighted(map { $_ => $often{$_} } sort keys %often);
        # at most one of those that take a round's time
        delete @often{qw(promote zombie away)} if $kind =~ /^(?:promote|zombie|away)$/;
        push @{ $plan->{actions} }, { at => $at, what => $kind, draw_victim($kind) };
        last unless %often;
    }
    # a cancel is often in flight when something else happens
    my @faults = @{ $plan->{actions} };
    for (1 .. between(0, 4))
    {
        my $when = @faults && chance(0.6) ? pick(@faults)->{at} + between(0, 1) : between(1, 60);
        push @{ $plan->{actions} }, { at => $when, what => 'cancel', request => int rand @{ $plan->{requests} } };
    }
    push @{ $plan->{actions} }, { at => between(1, 60), what => pick(qw(grow shrink redefine slots drop_package)) } for 1 .. between(0, 2);
    @{ $plan->{actions} } = sort { $a->{at} <=> $b->{at} } @{ $plan->{actions} };
    return;
}

# All numbers that a fault of any kind could need, so that each draws as many.
sub draw_victim
{
    my ($kind) = @_;
    my %v = (
        child  => pick(qw(a1 a2 d1)),
        agent  => pick(qw(parent a1 a2)),
        node   => pick(qw(parent parent a1 a2 d1)),
        who    => pick(qw(agent runner session)),
        for    => between(3, 60) / 10,
        times  => between(1, 30),
        point  => pick(@POINTS),
        dir    => pick(qw(c2s s2c)),
        when   => pick(qw(before after)),
        bytes  => between(1, 3000),
        message => pick('COMMIT', 'ROLLBACK', 'BEGIN', 'pg_current_xact_id', 'fleet_link', 'DISCARD', '^Z', '^C', '^D', 'INSERT|SELECT'));
    $v{for} += 31 if $kind eq 'away';
    return %v;
}

1;
