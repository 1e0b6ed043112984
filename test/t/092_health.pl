# Health of servers that nothing uses: they are looked at, and what is found is what fleet.server_status says.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0, conf => "fleet.probe_interval = '1s'\n");
sub state_of { my ($server) = @_; return "SELECT state FROM fleet.server_status WHERE server = '$server'"; }
sub seen { my ($server) = @_; return "SELECT last_seen FROM fleet.server_status WHERE server = '$server'"; }
sub seen_after { my ($server, $time) = @_; return "SELECT last_seen > '$time' FROM fleet.server_status WHERE server = '$server'"; }

$f->package('here', t => { sql => 'SELECT 1' });
$f->run_is($f->start('here'), 'succeeded', 'an agent');
for my $server (qw(a1 d1))
{
    note "---- $server";
    $f->wait_for('parent', "SELECT last_seen IS NOT NULL FROM fleet.server_status WHERE server = '$server'", 't', 'a server that was never used is seen');
    isnt($f->sql("SELECT version FROM fleet.server_status WHERE server = '$server'"), '', '… with its version');
    my $seen = $f->sql(seen($server));
    $f->wait_for('parent', seen_after($server, $seen), 't', '… again and again');
    $f->node($server)->stop;
    $f->wait_for('parent', state_of($server), 'suspect', 'it stops: it is not online, although nothing needs it');
    $f->node($server)->start;
    $f->wait_for('parent', state_of($server), 'online', 'it is back');
    $f->sql_on($server, q{ALTER ROLE etl PASSWORD 'changed'});
    $f->wait_for('parent', state_of($server), 'auth_failed', 'its password changes there: it refuses the login');
    $f->sql_on($server, q{ALTER ROLE etl PASSWORD 'etl-secret'});
    $f->wait_for('parent', state_of($server), 'online', 'and takes the right one');
    is($f->sql("SELECT string_agg(kind, ' ' ORDER BY event_id) FROM fleet.event WHERE server = '$server'"),
        'server_suspect server_back server_auth_failed server_back', 'of all that events tell, once');
}

# A server that is used says by that how it is; its connections are left alone.
$f->job('long', 'SELECT etl.work_until_released()');
$f->package('works', a => { job => 'long', server => 'a1', params => '{"key": "a"}' }, d => { job => 'long', server => 'd1', params => '{"key": "d"}' });
my $run = $f->start('works');
$f->wait_started($_, 1) for qw(a d);
my $seen = $f->sql(seen('d1'));
$f->sql('SELECT pg_sleep(3)');    # several probes would have come by then (time passes)
is($f->sql("SELECT count(*) FROM fleet.event WHERE kind LIKE 'server%' AND raised_at > (SELECT started_at FROM fleet.run WHERE run_id = $run)"), '0', 'while work runs nothing is cut');
$f->release($_) for qw(a d);
$f->run_is($run, 'succeeded', '… and it ends well');

# Whatever is queued says what it waits for.
$f->package('queue', first => { job => 'long', server => 'd1', params => '{"key": "q"}' },
    items => { job => 'long', server => 'd1', params => '{"key": "q"}', for_each => 'SELECT i FROM generate_series(1, 8) AS i', after => '{first}' },
    after => { sql => 'SELECT 1', after => '{first,items}' }, last => { sql => 'SELECT 1', final => 'true' }, handler => { sql => 'SELECT 1', catch => 'true' });
sub waits { my ($id) = @_; return "SELECT string_agg(DISTINCT task || ': ' || coalesce(waiting_for, '?'), '; ') FROM fleet.task_run WHERE run_id = $id AND state = 'queued'"; }
$run = $f->start('queue');
$f->wait_started('q', 1);
is($f->sql(waits($run)), 'after: tasks "first", "items"; handler: a failure that it is to handle; items: task "first"; last: the other tasks', 'tasks wait for tasks');
$f->sql(q{SELECT fleet.alter_server('d1', slots => 1)});
$f->release('q');
$f->run_is($run, 'succeeded', 'their turn comes');
$f->package('queue2', first => { job => 'long', server => 'd1', params => '{"key": "r"}' },
    items => { job => 'long', server => 'd1', params => '{"key": "r"}', for_each => 'SELECT i FROM generate_series(1, 8) AS i' });
$f->sql(q{SELECT fleet.alter_package('queue2', overlap => 'queue')});
$run = $f->start('queue2');
$f->wait_started('r', 1);
$f->wait_for('parent', waits($run) . q{ AND task = 'items'}, 'items: a free slot', 'items wait for a slot');
my $second = $f->start('queue2');
is($f->sql("SELECT waiting_for FROM fleet.run WHERE run_id = $second"), qq{run $run of package "queue2"}, 'a run waits for another one');
$f->sql(q{SELECT fleet.pause()});
my $third = $f->start('works');
like($f->sql("SELECT waiting_for FROM fleet.run WHERE run_id = $third"), qr/^everything is paused by /, '… or for the end of a pause');
$f->sql(q{SELECT fleet.resume()});
$f->release($_) for qw(r a d);
$f->run_is($_, 'succeeded', 'in the end nothing waits') for $run, $second, $third;

# Each probe logs in anew, and leaves nothing behind.
sub logins { my ($what) = @_; return "SELECT $what FROM pg_stat_database WHERE datname = 'dw'" }
$f->sql(q{ALTER SYSTEM SET fleet.probe_interval = '30ms'});
$f->sql('SELECT pg_reload_conf()');
my @memory;
for my $probes (30, 120)
{
    my $before = $f->sql_on('d1', logins('sessions'));
    $f->wait_for('d1', logins("sessions > $before + $probes"), 't', "$probes probes");
    push @memory, [ $f->agent_memory('parent') ];
}
my ($contexts, $malloc) = map { $memory[1][$_] - $memory[0][$_] } 0, 1;
note "120 probes of each server: $contexts bytes more in contexts, $malloc besides";
# what libpq keeps goes up and down with the sessions that are open at the moment, two of them here
cmp_ok($contexts, '<', 30000, 'memory contexts are flat over hundreds of probes');
cmp_ok($malloc, '<', 100000, '… and what libpq asks malloc for') unless $ENV{FLEET_ASAN};

# When it was seen moves with its answers: by the commit of what they bring.
$f->job('short', 'SELECT 1');
$f->package('talks', map({ $_ => { job => 'short', server => $_ } } qw(a1 d1)));
$f->sql(q{ALTER SYSTEM SET fleet.probe_interval = 0});
$f->sql('SELECT pg_reload_conf()');
$f->wait_for('parent', 'SHOW fleet.probe_interval', '0', 'no probes');
for my $time (1, 2)
{
    my $before = $f->sql('SELECT clock_timestamp()');
    $f->sql('SELECT pg_sleep(1.1)');    # it is written once a second (time passes)
    $f->run_is($f->start('talks'), 'succeeded', "run $time: both servers answer");
    is($f->sql("SELECT string_agg(server || ' ' || (last_seen > '$before'::timestamptz + '1 s'), ', ' ORDER BY server) FROM fleet.server_status"), 'a1 true, d1 true', '… and are seen at once');
}

# Of a server that is offline nobody wants to know; nor with 0.
$f->sql(q{SELECT fleet.set_server_state('a1', 'offline')});
$f->run_is($f->start('here'), 'succeeded', 'the agent has heard of it');
$seen = $f->sql('SELECT max(last_seen) FROM fleet.server_status');
$f->sql('SELECT pg_sleep(3)');    # several probes would have come by then (time passes)
is($f->sql('SELECT max(last_seen) FROM fleet.server_status'), $seen, 'nothing is looked at');

$f->done;
