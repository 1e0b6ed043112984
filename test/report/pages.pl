# The pages of fleet.report() and fleet.overview() in headless Chromium: runs that failed, were canceled, retried, are nested, have
# 100,000 items, are under way, and one in which every text is hostile.  At three widths, light and dark, with and without scripts:
# no console message, no request, no page wider than the screen, headings and headers in order, contrast of at least 4.5.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = $ENV{FLEET_TREE} || '.';
for my $needed ('/usr/bin/chromium', '/usr/bin/chromedriver')
{
    plan skip_all => "$needed is not installed: test/setup.sh installs it where apt has it" if !-x $needed;
}
plan skip_all => 'python3-selenium is not installed' if system('/usr/bin/python3 -c "import selenium" >/dev/null 2>&1') != 0;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0);
my $folder = PostgreSQL::Test::Utils::tempdir();
my %page; # name => run
sub page
{
    my ($name, $query) = @_;
    my $page = $f->sql($query);
    open my $file, '>', "$folder/$name.html" or die "$name: $!";
    print $file $page;
    close $file;
    unlike($page, qr/[^\x00-\x7f]/, "$name: it is ASCII");
    return $page;
}
sub report { my ($name, $run) = @_; return page($name, "SELECT fleet.report($run)"); }

# ---- ten packages -------------------------------------------------------------------------------

$f->job('load', { name => 'fetch', sql => 'SELECT 1' }, { name => 'check', sql => q{DO $$ BEGIN RAISE NOTICE 'checked'; END $$} });
$f->job('breaks', { name => 'break', sql => q{DO $$ BEGIN RAISE WARNING 'soon'; RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'it broke', DETAIL = 'Row 7 is bad.', HINT = 'Mend row 7.'; END $$} });

$f->package('succeeded', -params => '{"day": "2026-11-28", "api_token": "canary-1", "db": {"password": "canary-2", "host": "h"}, "url": "postgres://u:canary-3@h/db", "dsn": "host=h password=canary-4"}',
    first => { sql => 'SELECT 1' }, load => { job => 'load', on_group => 'all', after => '{first}' }, last => { sql => 'SELECT 1', after => '{load}' }, alarm => { sql => 'SELECT 1', after_failure_of => '{load}' });
$f->package('failed', first => { sql => 'SELECT 1' }, broken => { job => 'breaks', server => 'd1', after => '{first}' }, after => { sql => 'SELECT 1', after => '{broken}' });
$f->package('canceled', long => { sql => 'SELECT pg_sleep(600)' }, next => { sql => 'SELECT 1', after => '{long}' });
$f->sql('CREATE SEQUENCE etl.attempts; GRANT ALL ON SEQUENCE etl.attempts TO PUBLIC');
$f->package('retried', t => { sql => q{DO $$ BEGIN IF nextval('etl.attempts') < 3 THEN RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'once more'; END IF; END $$}, retries => 5, retry_wait => '1ms' });
$f->package('inner', one => { sql => 'SELECT 1' }, broken => { job => 'breaks', server => 'a1', after => '{one}' });
$f->package('nested', begin => { sql => 'SELECT 1' }, inside => { nested => 'inner', after => '{begin}' }, each => { nested => 'inner', for_each => 'SELECT n FROM generate_series(1, 3) AS n' });
$f->package('handled', broken => { job => 'breaks', server => 'a1' }, handler => { sql => 'SELECT 1', catch => 'true' }, tell => { sql => 'SELECT 1', final => 'true' });
$f->package('contained', stage => { container => 'true' }, 'stage/one' => { sql => 'SELECT 1' }, 'stage/two' => { job => 'load', on_group => 'all', after => '{one}' }, done => { sql => 'SELECT 1', after => '{stage}' });
$f->package('items', each => { job => 'load', on_group => 'all', for_each => q{SELECT 'item ' || n AS name FROM generate_series(1, 80) AS n}, item_key => 'name' });
$f->package('large', each => { sql => 'SELECT 1', for_each => 'SELECT 1 AS n FROM generate_series(1, 2)' }, after => { sql => 'SELECT 1', after => '{each}' });
$f->package('waits', long => { sql => 'SELECT pg_sleep(600)', for_each => 'SELECT n FROM generate_series(1, 3) AS n' }, next => { sql => 'SELECT 1', after => '{long}' });

# In every field: markup that would leave its place, the end of a script and of an attribute, right to left, a 64 kB line without a
# blank, bytes that are no character of HTML.
my $evil = q{</script><script>document.title='taken'</script><img src=x onerror="alert(1)">'"&amp;`};
my $rtl = "\x{202E}\x{5D0}\x{5D1}\x{5D2} \x{645}\x{631}\x{62D}\x{628}\x{627} \x{1F600} \x{65E5}\x{672C}";
utf8::encode($rtl);
my $name = substr($evil, 0, 100) . $rtl;
(my $task = "a $name") =~ tr{/}{}d; # which separates containers from what is in them
sub q_ { return quote_literal($_[0]); }
my $raise = sub { my ($what) = @_; return q{DO $do$ BEGIN RAISE NOTICE USING MESSAGE = } . q_($what) . q{, DETAIL = } . q_($what) . q{; RAISE WARNING '%', chr(1) || chr(7) || chr(27) || chr(127) || chr(133) || chr(65534);
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = } . q_($what) . q{, DETAIL = } . q_($what) . q{, HINT = } . q_($what) . q{; END $do$}; };
$f->sql('CREATE ROLE ' . '"' . ($name =~ s/"/""/gr =~ s/^(.{50}).*/$1/sr) . '" LOGIN SUPERUSER');
my $role = '"' . ($name =~ s/"/""/gr =~ s/^(.{50}).*/$1/sr) . '"';
$f->sql(sprintf q{SET ROLE %s; SELECT fleet.create_job(%2$s), fleet.add_step(%2$s, %2$s, sql => %3$s)}, $role, q_($name), q_($raise->($evil . $rtl)));
$f->sql(sprintf q{SET ROLE %s; SELECT fleet.create_package(%2$s, description => %2$s, params => jsonb_build_object(%2$s, %3$s)), fleet.add_task(%2$s, %4$s, job => %2$s), fleet.add_task(%2$s, 'wide', sql => %5$s),
    fleet.add_task(%2$s, 'items', sql => 'SELECT 1', for_each => %6$s, item_key => 'k', after_failure_of => %7$s),
    fleet.add_precedence(%2$s, 'wide', 'items', on_outcome => 'failure', condition => %8$s)}, $role, q_($name), q_($evil), q_($task), q_(q{DO $do$ DECLARE w text := '<b>' || repeat('W', 64000); BEGIN RAISE NOTICE '%', w; RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = w, DETAIL = w, HINT = w; END $do$}), q_(q{SELECT } . q_($evil . $rtl) . q{ || n AS k FROM generate_series(1, 3) AS n}),
    q_('{"' . ($task =~ s/([\\"])/\\$1/gr) . '"}'), q_('1 = 1 OR ' . q_($evil) . q{ = '' }));

my %ends = (succeeded => 'succeeded', failed => 'failed', retried => 'succeeded', nested => 'failed', handled => undef, contained => 'succeeded', items => 'succeeded');
my %run = map { $_ => $f->start($_) } sort keys %ends;
for my $package (sort keys %ends)
{
    my $state = $f->wait_run($run{$package});
    is($state, $ends{$package}, "$package: the run is as it is meant to be") if $ends{$package};
}
$run{canceled} = $f->start('canceled');
$f->wait_for('parent', "SELECT bool_or(state = 'running') FROM fleet.task_run WHERE run_id = $run{canceled}", 't', 'canceled: it runs');
$f->sql("SELECT fleet.cancel_run($run{canceled})");
$f->run_is($run{canceled}, 'canceled', 'canceled: it is');
$run{hostile} = $f->sql(sprintf q{SET ROLE %s; SELECT fleet.run_parent_package(%s, run_key => %2$s)}, $role, q_($name));
$f->run_is($run{hostile}, 'succeeded', 'hostile: its failures are handled') or diag($f->sql("SELECT * FROM fleet.task_run WHERE run_id = $run{hostile}"));
$run{waits} = $f->start('waits');
$f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run{waits} AND item > 0 AND state = 'running'", '3', 'waits: it is under way');
$f->sql(sprintf q{SELECT fleet.pause(%s, package => 'succeeded')}, q_($evil));

# A run with 100,000 items, put there by hand.
$run{large} = $f->start('large');
$f->run_is($run{large}, 'succeeded', 'large: it has ended');
$f->sql(<<"SQL");
DELETE FROM fleet_catalog.task_run WHERE run_id = $run{large} AND task_no = 0 AND item > 0;
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, params, state, attempt, server_id, started_at, finished_at, row_count, sqlstate, message)
SELECT r.run_id, 0, n, r.started_at, jsonb_build_object('n', n), CASE WHEN n % 997 = 0 THEN 12 ELSE 11 END, 1, (SELECT min(server_id) + n % 2 FROM fleet_catalog.server), r.started_at + n * interval '36 ms',
       r.started_at + n * interval '36 ms' + (150 + 100 * sin(n)) * interval '1 ms', n % 100, CASE WHEN n % 997 = 0 THEN '23505' END, CASE WHEN n % 997 = 0 THEN 'duplicate key in batch ' || n END
  FROM fleet_catalog.run AS r, generate_series(1, 100000) AS n WHERE run_id = $run{large};
UPDATE fleet_catalog.run SET finished_at = started_at + interval '1 hour', state = 12 WHERE run_id = $run{large};
UPDATE fleet_catalog.task_run SET finished_at = started_at + interval '1 hour', state = 12 WHERE run_id = $run{large} AND task_no = 0 AND item = 0;
ANALYZE fleet_catalog.task_run;
SQL

# ---- what they say ------------------------------------------------------------------------------

my %html = map { $_ => report($_, $run{$_}) } sort keys %run;
$html{overview} = page('overview', 'SELECT fleet.overview()');
$html{job} = report('job', do { my $j = $f->sql(q{SELECT fleet.start_job('load', server => 'd1')}); my $r = $f->sql("SELECT run_id FROM fleet.job_run WHERE job_run_id = $j"); $f->wait_run($r); $r });

cmp_ok(length $html{$_}, '<', 2_000_000, "$_: at most 2 MB") for sort keys %html;
unlike($html{succeeded}, qr/canary/, 'no secret among the parameters is shown');
like($html{succeeded}, qr/\(hidden\)/, '... but that there is one');
like($html{failed}, qr{<article class="fail"><h3><bdi>broken</bdi>.*?<pre class="msg">it broke</pre>.*?<code>23514</code>.*?server <bdi>d1</bdi>, step <bdi>break</bdi>.*?Row 7 is bad.*?Mend row 7.*?PL/pgSQL.*?<b>WARNING</b> soon}s, 'failed: the failure with SQLSTATE, message, where, detail, hint, context and log');
cmp_ok(index($html{failed}, 'id="failures"'), '<', index($html{failed}, 'id="graph"'), 'failed: ... and it comes first');
like($html{failed}, qr{<path class="success t" data-e="0 1".*<path}s, 'failed: a constraint that was taken is marked');
like($html{failed}, qr{<path class="success" data-e="1 2"}, 'failed: ... and one that was not is not');
my @cards = $html{nested} =~ /<article class="fail"><h3><bdi>([^<]*)/g;
is(join(', ', sort @cards), 'each[1] / broken, each[2] / broken, each[3] / broken, inside / broken', 'nested: what failed is shown where it did, and not again as the failure of the package around it');
like($html{nested}, qr{inside / one.*inside / broken}s, 'nested: tasks of nested packages are below their parent');
like($html{retried}, qr{<rect class="re old".*attempt 1.*<rect class="re old".*attempt 2}s, 'retried: the time chart has the earlier attempts');
like($html{large}, qr{100,001 tasks and items.*, 100 failed\.}, 'large: all items are counted');
is(scalar(() = $html{large} =~ /<article class="fail">/g), 1, 'large: failures that differ by a number only are one');
like($html{canceled}, qr{class="st ca".*canceled}s, 'canceled: it says so');
like($html{overview}, qr{id="failing".*<bdi>failed</bdi></b> <span class="st no">.*it broke}s, 'overview: what fails, and why');
like($html{overview}, qr{Package <bdi>succeeded</bdi></b> <span class="st ca">paused}, 'overview: what is paused');
like($html{overview}, qr{id="running".*<bdi>waits</bdi>}s, 'overview: what runs');
like($html{waits}, qr{class="st ru"}, 'waits: it runs');
unlike($html{hostile}, qr{<img|<b>WWW|onerror="}, 'hostile: no markup of a user is markup');

# ---- how they look ------------------------------------------------------------------------------

my $pages = keys %html;
my ($out, $err) = run_command([ '/usr/bin/python3', "$tree/test/report/look.py", $folder ]);
my @lines = split /\n/, $out;
my $last = pop @lines // '';
is(join("\n", @lines), '', 'nothing is wrong with any of them') or diag($err);
like($last, qr/^@{[ $pages * 9 ]} looks, the least contrast is (?:4\.[5-9]|[5-9]|1\d)/, 'each was looked at in each way') or diag("$last\n$err");

# It would find what is wrong.
my $bad = "$folder/bad";
mkdir $bad;
my %defect = (
    wide => [ '</main>' => '<div style="width:3000px">x</div></main>', qr/pixels wide instead of/ ],
    request => [ '<main>' => '<main><img alt="" src="http://127.0.0.1:9/x.png">', qr/console:|it asks for|should not have/ ],
    pale => [ '</main>' => '<p style="color:#aaa;background:#fff">pale</p></main>', qr/contrast 2\.32/ ],
    scope => [ 'scope="col"' => '', qr/without scope/ ],
    script => [ '"use strict";' => '"use strict"; ', qr/console:|did not run/ ],
);
for my $name (sort keys %defect)
{
    my ($from, $to) = @{ $defect{$name} };
    (my $page = $html{failed}) =~ s/\Q$from\E/$to/ or die $name;
    open my $file, '>', "$bad/$name.html" or die $!;
    print $file $page;
    close $file;
}
($out, $err) = run_command([ '/usr/bin/python3', "$tree/test/report/look.py", $bad ]);
like($out, qr/^$_\.html, [^\n]*$defect{$_}[2]/m, "a page with a defect is found: $_") for sort keys %defect;

$f->sql("SELECT fleet.cancel_run($run{waits})");
$f->run_is($run{waits}, 'canceled', 'the last one is canceled');
$f->done;
