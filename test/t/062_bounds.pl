# What a role may ask for, a server may say and a package may hold has an end, so that nobody else waits for it, and
# what belongs to all (the lock table, the lock of who notifies) is nobody's fault and waited for by nobody.
use strict;
use warnings;
use FakeServer;
use FleetTest qw(quote_literal);
use POSIX qw(mkfifo);
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0);
$f->sql('CREATE ROLE other LOGIN; CREATE ROLE eve LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO eve');
$f->sql_as('other', q{SELECT fleet.create_package('line'); SELECT fleet.add_task('line', 't', sql => 'SELECT 1')});
$f->job('noop', 'SELECT 1');
$f->package('there', t => { job => 'noop', server => 'a1' });
sub others_go_on
{
    my ($name) = @_;
    my ($rc, $out, $err) = $f->try_as('other', q{CALL fleet.execute_package('line')});
    is($rc, 0, "$name: another role's run succeeds") or diag($err);
    return;
}
$f->run_is($f->start('there'), 'succeeded', 'all is well');
my $starts = $f->sql('SELECT starts FROM fleet.agent_status()');

# ---- files that libpq would read in the login ---------------------------------------------------

my $fake = FakeServer->new;
$fake->tls(1);
$fake->ctl(auth => 'cleartext');
my $dir = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $dir;
mkfifo("$dir/pipe", 0644) or die "$!";
open my $big, '>', "$dir/big" or die "$!";
truncate $big, 2_000_000;
close $big;
my $n = 0;
for my $file ("$dir/pipe", '/proc/self/fd/3', '/proc/self/status', '/dev/zero', $dir, "$dir/big")
{
    my $server = 'file' . ++$n;
    $f->sql_as('eve', sprintf q{SELECT fleet.add_server('%s', 'host=127.0.0.1 port=%d dbname=x sslmode=verify-ca sslrootcert=%s', username => 'u', password => 'p', mode => 'direct', slots => 1)},
        $server, $fake->port, $file);
    $f->sql_as('eve', "SELECT fleet.create_job('$server'); SELECT fleet.add_step('$server', 's', 'SELECT 1'); SELECT fleet.create_package('$server'); SELECT fleet.add_task('$server', 't', job => '$server', server => '$server')");
    my $run = $f->sql_as('eve', "SELECT fleet.run_parent_package('$server')");
    $f->wait_for('parent', "SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run", '28000 refused: "sslrootcert" must be the name of a file of at most 1000000 bytes', "$file: refused");
    others_go_on($file);
}

# ---- sizes --------------------------------------------------------------------------------------

my $uuid = '00000000-0000-0000-0000-0000000000ee';
$f->sql_as('etl', "SELECT fleet_link.agent_hello(2, '$uuid', 1, 'eve'); SELECT fleet.create_job('mine'); SELECT fleet.add_step('mine', 's', 'SELECT 1')", on => 'a1');
for my $case ([ 'one too large', q{ARRAY[jsonb_build_object('k', repeat('x', 1100000))]}, '22023' ], [ 'one that is not', q{ARRAY[jsonb_build_object('k', repeat('x', 900000))]}, '' ])
{
    my ($name, $params, $sqlstate) = @$case;
    is($f->sql_as('etl', "SELECT sqlstate FROM fleet_link.agent_start('$uuid', 1, ARRAY[gen_random_uuid()], ARRAY['mine'], $params)", on => 'a1'), $sqlstate, "parameters of a start, $name");
}
$f->fails(q{SELECT fleet.run_parent_package('line', params => jsonb_build_object('k', repeat(chr(1), 300000)))}, '54000', 'parameters whose text is too long', as => 'other', like => qr/params are too large/);
$f->fails(q{SELECT fleet.run_parent_package('line', params => jsonb_build_object('k', repeat(chr(1), 200000000)))}, '54000', '… that no text can hold', as => 'other',
    like => qr/params are too large\n.*DETAIL:  Their size is 2000000\d\d bytes/s);
for my $case ([ 'tasks', 10001 ], [ 'steps', 1001 ])
{
    my ($what, $many) = @$case;
    my $body = $what eq 'steps' ? q{jsonb_build_object('name', 'many', 'params', '{}'::jsonb, 'steps', list.l)}
      : q{jsonb_build_object('name', 'many', 'params', '{}'::jsonb, 'steps', '[]'::jsonb, 'packages', jsonb_build_object('p', jsonb_build_object('name', 'p', 'params', '{}'::jsonb, 'tasks', list.l, 'precedence', '[]'::jsonb)))};
    $f->fails("SELECT fleet_link.agent_deploy('$uuid', 1, $body) FROM (SELECT jsonb_agg(jsonb_build_object('name', n::text)) AS l FROM generate_series(1, $many) AS n) AS list", '54000',
        "a deployment with $many $what", as => 'etl', on => 'a1', like => qr/too many $what/);
}
my $groups = join ',', map { "g$_" } 1 .. 1001;
$f->fails("SELECT fleet.alter_server('d1', groups => '{$groups}')", '54000', '1001 groups', like => qr/too many groups/);
$f->package('huge', t => { job => 'noop', server => 'd1', for_each => q{SELECT jsonb_build_object('k', repeat('x', 60000)) FROM generate_series(1, 5000)} });
my $run = $f->start('huge');
$f->run_is($run, 'failed', 'items of 300 MB');
like($f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), qr/the rows of the query are larger than 256 MB/, '… and it says why');

# the longest names, which begin alike
my @long = map { '漢' x 199 . $_ } qw(字 語);
$f->sql(sprintf q{SELECT fleet.alter_server('d1', groups => ARRAY['direct', %s]), fleet.alter_server('a1', groups => ARRAY['agents', %s])}, map { quote_literal($_) } @long);
$f->package("long$_", t => { job => 'noop', on_group => $long[$_] }) for 0, 1;
for my $i (0, 1)
{
    $run = $f->start("long$i");
    $f->run_is($run, 'succeeded', 'a group with a name of 600 bytes');
    is($f->sql("SELECT server FROM fleet.task_run WHERE run_id = $run"), qw(d1 a1)[$i], '… is that group');
}

# ---- many nested runs ----------------------------------------------------------------------------

$f->package('leaf', t => { sql => 'SELECT 1' });
$f->package('many', t => { nested => 'leaf', for_each => q{SELECT jsonb_build_object() FROM generate_series(1, 6000)} });
my $other = FleetTest::Session->new($f->parent, $FleetTest::DB, 'other');
$run = $f->start('many');
$f->wait_for('parent', q{SELECT count(*) > 0 FROM fleet.run WHERE package = 'leaf'}, 't', 'many nested runs: the first are there');
my $line = $other->sql(q{SELECT fleet.run_parent_package('line')});
$f->wait_for('parent', "SELECT started_at IS NOT NULL FROM fleet.run WHERE run_id = $line", 't', '… another role has its turn');
$f->wait_for('parent', "SELECT max(queued_at) > (SELECT started_at FROM fleet.run WHERE run_id = $line) FROM fleet.run WHERE package = 'leaf'", 't', '… before they all are there');
undef $other;
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', '… and are canceled');

# ---- what belongs to all -------------------------------------------------------------------------

is($f->sql('SELECT starts FROM fleet.agent_status()'), $starts, 'no agent has ended');
$run = $f->sql(q{SELECT nextval('fleet_catalog.run_run_id_seq')}) + 1;
$f->point('parent', "work_load.$run", 'locks 4');
is($f->start('there'), $run, 'a full lock table, four times, with one run in hand: it is asked for');
$f->run_is($run, 'succeeded', '… it runs all the same');
is($f->sql('SELECT count(*) FROM fleet.quarantine'), '0', '… and nobody is in quarantine');

# Who waits for a standby that is gone has notified, and holds the lock of all who do.
my $a1 = $f->node('a1');
$a1->append_conf('postgresql.conf', "max_wal_senders = 2\nwal_level = replica\nsynchronous_commit = local\nsynchronous_standby_names = 'gone'\n");
$f->forget('a1');
$a1->restart;
$f->wait_for('a1', 'SHOW synchronous_standby_names', 'gone', 'a server waits for standbys, those who ask for it');
my $eve = FleetTest::Session->new($a1, $FleetTest::DB, 'etl');
$eve->say(q{SET application_name = 'eve'});
print { $eve->{in} } "SET synchronous_commit = on; BEGIN; CREATE TEMP TABLE z (); NOTIFY a; COMMIT;\n";
$eve->{in}->flush;
$f->wait_for('a1', q{SELECT wait_event FROM pg_stat_activity WHERE application_name = 'eve'}, 'SyncRep', 'somebody waits in COMMIT, who notifies');
$run = $f->start('there');
$f->wait_for('a1', q{SELECT state FROM fleet.job_run ORDER BY job_run_id DESC LIMIT 1}, 'succeeded', '… a job of the parent runs there meanwhile');
$f->point('parent', 'link_looks_again', 'signal');
$f->run_is($run, 'succeeded', '… whose end the parent hears when it looks again');
is($f->sql_on('a1', q{SELECT count(*) FROM pg_locks WHERE NOT granted}), '0', '… and nobody waits for a lock');
is($f->sql_on('a1', q{SELECT wait_event FROM pg_stat_activity WHERE application_name = 'eve'}), 'SyncRep', '… all the time');
$f->sql_on('a1', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'eve'});
$eve->say('SELECT 1');
$a1->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$a1->reload;
undef $eve;
$f->done(made => 1);
