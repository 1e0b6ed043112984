# Many servers at one address: so many logins at a time, the others wait for their turn; where nobody answers,
# all hear so with the first.  And hellos of one parent, hundreds at a time, do not wait for each other.
use strict;
use warnings;
use FleetTest;
use IO::Select;
use IO::Socket::INET;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0);
$f->job('noop', 'SELECT 1');

# ---- how many at a time ------------------------------------------------------------------------

my $silent = IO::Socket::INET->new(Listen => 500, LocalAddr => '127.0.0.1') or die "$!";
my $ears = IO::Select->new($silent);
my @heard;
sub heard
{
    my ($patience) = @_;
    push @heard, scalar $silent->accept while $ears->can_read($patience);
    return scalar @heard;
}
sub heard_of
{
    my ($n) = @_;
    my $end = time + $FleetTest::PATIENCE;
    heard(0.1) until @heard >= $n || time > $end;
    return scalar @heard;
}
my @mute = map { "mute $_" } 1 .. 60;
$f->sql(join ";\n", map { sprintf q{SELECT fleet.add_server('%s', 'host=127.0.0.1 port=%d dbname=x sslmode=disable connect_timeout=4', username => 'etl', password => 'x', mode => '%s', slots => 2, groups => '{mute}')},
        $_, $silent->sockport, /[02468]$/ ? 'direct' : 'agent' } @mute);
$f->package('mute', map { ("m $_" => { job => 'noop', server => $_ }) } @mute);
$f->package('here', t => { sql => 'SELECT 1' });
my $run = $f->start('mute');
cmp_ok(heard_of(32), '>=', 32, '60 servers at one address: logins are tried');
$f->run_is($f->start('here'), 'succeeded', '… and the loop has turned');
is(heard(0.1), 32, '… 32 at a time');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.server_status WHERE server LIKE 'mute%' AND state = 'suspect'}, '60', 'nobody answers: all are suspect');
cmp_ok(heard(0), '<=', 32 + 60, '… though not all have tried');
is($f->sql(q{SELECT DISTINCT last_error FROM fleet.server_status WHERE server LIKE 'mute%'}), 'no answer to the attempt to connect within 4 seconds', '… and say why');
$f->sql(q{SELECT fleet.alter_server('d1', slots => 4, groups => '{mute}')});
$f->package('either', t => { job => 'noop', on_group => 'mute', for_each => q{SELECT jsonb_build_object('n', n) FROM generate_series(1, 20) AS n} });
$f->run_is($f->start('either'), 'succeeded', 'work for a group of them goes to the one that answers');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'what never began is canceled');

# A server is removed while it waits for its turn, and others come after it.
$f->sql(join ";\n", map { "SELECT fleet.set_server_state('$_', 'offline')" } @mute);
$_->close for @heard;
$silent->close;
my @many = map { "d1 $_" } 1 .. 80;
$f->sql(join ";\n", map { sprintf q{SELECT fleet.add_server('%s', '%s', username => 'etl', password => '%s', mode => 'direct', slots => 2)}, $_, $f->conninfo('d1'), $FleetTest::PASSWORD } @many);
$f->package('many', map { ("t $_" => { job => 'noop', server => $_ }) } @many);
$f->run_is($f->start('many'), 'succeeded', '80 servers at one address: each has its turn');
is($f->sql(q{SELECT count(DISTINCT server) FROM fleet.task_run WHERE package = 'many' AND state = 'succeeded'}), '80', '… each once');

# ---- hellos ------------------------------------------------------------------------------------

my $uuid = '00000000-0000-0000-0000-0000000000aa';
sub hello { return "SELECT agent_protocol FROM fleet_link.agent_hello(2, '$uuid', $_[0], '$_[1]')" }
my $row = "SELECT epoch, name, xmin FROM fleet_catalog.parent WHERE parent_uuid = '$uuid'";
$f->sql_as('etl', hello(7, 'p'), on => 'a1');
my $before = $f->sql_on('a1', $row);
like($before, qr/^7\|p\|/, 'the first hello of an epoch is stored');
my ($open, $second) = map { FleetTest::Session->new($f->node('a1'), $FleetTest::DB, 'etl') } 1, 2;
$_->say(q{SET statement_timeout = '30s'}) for $open, $second;
$open->say('BEGIN');
is($open->say(hello(7, 'p')), '2', 'another one …');
is($f->sql_on('a1', $row), $before, '… writes nothing');
is($second->say(hello(7, 'p')), '2', 'a third one does not wait for it');
print { $second->{in} } hello(8, 'p'), ";\n";
$second->{in}->flush;
$f->wait_for('a1', q{SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity WHERE query LIKE '%agent\_hello(2, %, 8, %' AND pid <> pg_backend_pid()}, 'Lock advisory', 'that of a new epoch does');
$open->say('COMMIT');
is($second->say(q{SELECT 'then'}), "2\nthen", '… until it is over');
like($f->sql_on('a1', $row), qr/^8\|p\|/, '… and is stored');
$f->fails(hello(7, 'p'), 'FE001', 'then the old one is refused', as => 'etl', on => 'a1');
is($f->sql_as('etl', hello(8, 'q'), on => 'a1'), '2', 'the parent has got another name');
like($f->sql_on('a1', $row), qr/^8\|q\|/, '… which is stored');
$f->done;
