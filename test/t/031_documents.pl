# The documents tell the truth: demo/tour.sql prints what doc/tour.md shows, the quick start of README.md
# can be pasted into psql as it stands, and doc/reference.md has a section for each function, view and
# setting, with the arguments and columns that there are.  What a view tells first is within the width of a terminal.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;
use TourDoc;

my $f = FleetTest->new(witness => 0);
my $parent = $f->parent;

# A psql that is fed a script as if somebody pasted it: everything that it prints, in its order.
sub paste
{
    my ($node, $db, $script, @options) = @_;
    my $out = '';
    my $error = IPC::Run::run([ $node->installed_command('psql'), '-X', @options, '-d', $node->connstr($db) ],
        '<', \$script, '>', \$out, '2>&1') ? '' : 'psql failed';
    utf8::decode($out);
    return $out . $error;
}

# ---- the reference -----------------------------------------------------------------------------

my $reference = TourDoc::slurp('doc/reference.md');
my %section;    # name => text, of each heading of the third level
my %duplicate;
for my $part (split /^(?=#{1,3} )/m, $reference)
{
    next unless $part =~ /\A### `?([\w.]+)`?\n(.*)\z/s;
    $duplicate{$1}++ if exists $section{$1};
    $section{$1} = $2;
}
is(join(' ', sort keys %duplicate), '', 'reference: no heading twice');

my $functions = $f->sql(q{SELECT string_agg(DISTINCT 'fleet.' || proname, ' ') FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace});
my $relations = $f->sql(q{SELECT string_agg('fleet.' || relname, ' ') FROM pg_class WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('v', 'r', 'm')});
my $settings = $f->sql(q{LOAD 'pg_fleet'; SELECT string_agg(name, ' ') FROM pg_settings WHERE name LIKE 'fleet.%'});
my %exists = map { $_ => 1 } split ' ', "$functions $relations $settings";
for my $what ([ functions => $functions ], [ views => $relations ], [ settings => $settings ])
{
    my ($kind, $names) = @$what;
    is(join(' ', grep { !exists $section{$_} } sort split ' ', $names), '', "reference: all $kind have a section");
}
is(join(' ', grep { !$exists{$_} } sort keys %section), '', 'reference: no section of something that does not exist');

# The first block of a function's section is its signature, as the catalog has it.
my @signatures = split /\n/, $f->sql(<<'SQL');
SELECT p.proname || chr(9)
       || regexp_replace(format('fleet.%s(%s)', p.proname, pg_get_function_arguments(p.oid)), '''::[a-z]+(\[\])?', '''', 'g')
       || CASE WHEN p.prokind = 'f' THEN ' RETURNS ' || pg_get_function_result(p.oid) ELSE '' END
  FROM pg_proc AS p WHERE p.pronamespace = 'fleet'::regnamespace ORDER BY p.proname
SQL
@signatures or fail('reference: there are functions');
for my $line (@signatures)
{
    my ($name, $signature) = split /\t/, $line;
    my ($shown) = ($section{"fleet.$name"} // '') =~ /^```sql\n(.*?)^```/ms;
    $shown //= '';
    for ($shown, $signature)
    {
        s/\s+/ /g;
        s/\( /(/g;
        s/ \z//;
        s/NULL::[a-z]+( precision| with(out)? time zone)?(\[\])?/NULL/g;
        s/\bIN (?=\w)//g;
    }
    is($shown, $signature, "reference: signature of $name");
}

# The first column of the table of a view's section has its columns, in their order.
for my $line (split /\n/, $f->sql(q{SELECT attrelid::regclass || ' ' || string_agg(attname, ' ' ORDER BY attnum)
    FROM pg_attribute WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('v', 'r', 'm'))
    GROUP BY attrelid ORDER BY 1}))
{
    my ($name, @columns) = split ' ', $line;
    $name =~ s/"//g;
    my @shown = ($section{$name} // '') =~ /^\| `(\w+)` \|/mg;
    is("@shown", "@columns", "reference: columns of $name");
}

# ---- views in a terminal -----------------------------------------------------------------------

# Of a run and its surroundings as they are met, what is read first is within 100 characters of psql's own format.
my %read_first = (
    deployment => 'server job state drift owner deployed_at',
    event => 'event_id raised_at kind run_id package',
    group => 'name owner servers',
    hook_call => 'hook event_id state attempts started_at',
    hooks => 'hook owner enabled last_state failures on_event package',
    job => 'job owner steps leaves_clean changed_at',
    job_log => 'run_id task item server step state sqlstate duration',
    job_run => 'job_run_id job state row_count sqlstate started_at',
    quota => 'role max_open_runs max_active_runs max_priority max_runners max_log_mb',
    limits => 'name max_running running queued owner shared',
    log => 'run_id task item step seq level',
    package => 'package owner tasks overlap priority changed_at',
    paused => 'what run_id package on_group paused_at paused_by',
    precedence => 'package from_task to_task on_outcome condition',
    progress => 'run_id package state total done failed elapsed eta',
    quarantine => 'kind run_id job_run_id server job quarantined ends',
    recent => 'run_id package state started duration done failed_task',
    run => 'run_id package state started_at finished_at',
    schedule => 'name package job cron time_zone',
    server => 'server mode state slots weight groups owner wrapper',
    server_status => 'server mode state slots busy groups last_seen',
    stat => 'scope package owner runs_succeeded',
    stat_server => 'server tasks_succeeded tasks_failed tasks_canceled',
    step => 'job step_no step package on_success success_goto on_failure',
    step_run => 'run_id job_run_id task item step state attempt server sqlstate',
    task => 'package task_no task kind job server on_group nested',
    task_run => 'run_id task item state server attempt row_count sqlstate',
    version => 'kind name version changed_by changed_at',
);
# Texts of any length: nothing narrow is behind them, but for the log, where they are what one reads.
my $wide = qr/\A(?:params|params_sql|message|detail|hint|context|output|description|sql|for_each|options|condition|last_error|document)\z/;

my $rows = <<'SQL';
BEGIN;
SELECT fleet.create_package('load_orders', params => '{"region": null, "day": null}', description => 'orders of each region, then totals');
SELECT fleet.create_job('load_region', params => '{"region": null, "day": null}', description => 'orders of one region');
SELECT fleet.add_step('load_region', 'load', 'CALL etl.load(fleet.param(''region''), fleet.param(''day'')::date)', retries => 2, timeout => '1h');
SELECT fleet.add_server('warehouse_1', 'host=192.0.2.1 dbname=dw', username => 'etl', password => 'secret', groups => '{etl,europe}');
SELECT fleet.add_task('load_orders', 'load_region', job => 'load_region', on_group => 'etl', for_each => 'SELECT to_jsonb(r) FROM region AS r');
SELECT fleet.add_task('load_orders', 'totals', sql => 'REFRESH MATERIALIZED VIEW order_totals');
SELECT fleet.add_precedence('load_orders', 'load_region', 'totals');
SELECT setval('fleet_catalog.run_run_id_seq', 104711), setval('fleet_catalog.job_run_job_run_id_seq', 204711);
SELECT fleet.run_parent_package('load_orders', params => '{"region": "north", "day": "2026-11-27"}') AS run,
       fleet.start_job('load_region', params => '{"region": "north", "day": "2026-11-27"}') AS job_run
\gset
UPDATE fleet_catalog.run SET state = 3, started_at = now() - interval '83.123456 s' WHERE run_id = :run;
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, attempt, server_id, params, started_at, finished_at, row_count, sqlstate, message)
SELECT :run, 0, i, now() - interval '83.123456 s', CASE i WHEN 0 THEN 3 WHEN 7 THEN 12 WHEN 8 THEN 3 ELSE 11 END, 1, s.server_id, '{"region": "north"}',
       now() - interval '83.123456 s', CASE WHEN i NOT IN (0, 8) THEN now() - interval '12.654321 s' END, 1234567,
       CASE i WHEN 7 THEN '22012' END, CASE i WHEN 7 THEN 'division by zero' END
  FROM fleet_catalog.server AS s, generate_series(0, 20) AS i;
INSERT INTO fleet_catalog.step_run (run_id, task_no, item, started_at, first_seq, server_id, step_no, attempt, step, backend_pid, xid, state, phase, last_seq,
                                    finished_at, row_count, sqlstate, message, context)
SELECT t.run_id, t.task_no, t.item, t.started_at, 1, t.server_id, 1, 1, 'load', 123456, 8155815, t.state, 4, 3, t.finished_at, t.row_count, t.sqlstate, t.message,
       'PL/pgSQL function etl.load(text,date) line 7 at SQL statement'
  FROM fleet_catalog.task_run AS t WHERE t.item > 0;
INSERT INTO fleet_catalog.log_line (run_id, task_no, item, step_no, seq, logged_at, level, message) VALUES (:run, 0, 7, 1, 2, now(), 'WARNING', 'north: 1234567 rows');
UPDATE fleet_catalog.job_run SET state = 11, row_count = 1234567, started_at = now() - interval '83.123456 s', finished_at = now() WHERE job_run_id = :job_run;
INSERT INTO fleet_catalog.server_health (server_id, status, last_seen, version, last_error, last_error_at)
SELECT s.server_id, 'suspect', now(), '15.20 (Debian 15.20-0+deb12u1)', 'connection to server at "192.0.2.1", port 5432 failed: Connection timed out', now() FROM fleet_catalog.server AS s;
INSERT INTO fleet_catalog.deployment (server_id, job, owner, hash, document, state, deployed_at)
SELECT s.server_id, 'load_region', s.owner, gen_random_uuid(), '{}', 'deployed', now() FROM fleet_catalog.server AS s;
INSERT INTO fleet_catalog.quarantine (kind, id, ends, work, sqlstate, message)
SELECT 'deployment', d.deployment_id, 3, 'work_deployed', '22012', 'division by zero' FROM fleet_catalog.deployment AS d
UNION ALL SELECT 'run', :run, 2, 'work_write', '22012', 'division by zero'
UNION ALL SELECT 'job run', :job_run, 4, 'work_write', '22012', 'division by zero';
SELECT fleet.create_limit('big_io', 4, 'reads whole tables');
SELECT fleet.set_quota(NULL, max_runners => 4);
SELECT fleet.add_hook('mail_failures', sql => 'SELECT 1');
INSERT INTO fleet_catalog.hook_call (hook_id, event_id, state, attempts, started_at, finished_at) SELECT h.hook_id, 104711, 11, 1, now(), now() FROM fleet_catalog.hook AS h;
INSERT INTO fleet_catalog.pause (package, reason, paused_by) VALUES ('load_orders', 'source is down', 'planner');
INSERT INTO fleet_catalog.event (raised_at, kind, run_id, package, task, item, server_id, server, owner, sqlstate, message)
SELECT now(), 'server_auth_failed', :run, 'load_orders', 'regions', 7, s.server_id, s.name, s.owner, '22012', 'division by zero' FROM fleet_catalog.server AS s;
SELECT fleet.schedule_package('load_orders', '0 2 * * 1-5', params => '{"region": "north", "day": "today"}', time_zone => 'America/New_York');
SQL

my $relation = join "\n", map { "\\echo = $_\nTABLE fleet.$_;" } sort keys %read_first;
my %aligned = map { /\A(\w+)\n(.*)\z/s } split /^= /m, paste($parent, $FleetTest::DB, "\\set ON_ERROR_STOP on\n$rows$relation\nROLLBACK;\n", '-q');
is(join(' ', sort keys %read_first), join(' ', sort map { s/^fleet\.//r } split ' ', $relations), 'views: each is looked at');
for my $view (sort keys %read_first)
{
    my ($heading, $line) = split /\n/, $aligned{$view} // '', 3;
    my @columns = map { s/^\s+|\s+$//gr } split /\|/, $heading // '';
    my ($end, @within) = 0;
    for my $cell (split /\+/, $line // '')    # of dashes, as wide as the column and a space on both sides
    {
        $end += length($cell) + 1;
        push @within, $columns[@within] if $end - 2 <= 100;
    }
    like("@within ", qr/\A$read_first{$view} /, "$view: what is read first is within 100 characters") or diag($aligned{$view});
    like(join('', map { /$wide/ ? 'w' : 'n' } @columns), qr/\An+w*\z/, "$view: wide texts come last") if $view ne 'log';
}

# ---- links between documents -------------------------------------------------------------------

my %anchors;
my @documents = ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', glob('doc/*.md'), glob('test/*.md test/*/*.md'));

sub anchors
{
    my ($file) = @_;
    return $anchors{$file} ||= do {
        my $text = TourDoc::slurp($file) =~ s/^```.*?^```$//msgr;
        my %a = map { my $t = lc; $t =~ s/[^\w\s-]//g; $t =~ s/ /-/g; $t => 1 } $text =~ /^#+ (.+)$/mg;
        \%a;
    };
}
my @dead;
for my $document (@documents)
{
    my $text = TourDoc::slurp($document) =~ s/^```.*?^```$//msgr;
    my ($folder) = $document =~ m{\A(.*/)}s;
    for my $link ($text =~ /\]\(([^)\s]+)\)/g)
    {
        next if $link =~ /^https?:/;
        my ($file, $anchor) = split /#/, $link;
        my $path = $file ? ($folder // '') . $file : $document;
        $path =~ s{[^/]+/\.\./}{} while $path =~ m{[^/]+/\.\./};
        push @dead, "$document: $link" if !-e $path || $anchor && $path =~ /\.md\z/ && !anchors($path)->{$anchor};
    }
}
is(join("\n", @dead), '', 'documents: no dead link');

# ---- the quick start of README.md --------------------------------------------------------------

my ($quick) = TourDoc::slurp('README.md') =~ /^## Quick start\n.*?^```sql\n(.*?)^```/ms;
ok($quick, 'README.md has a quick start');
cmp_ok(scalar(() = ($quick // '') =~ /\n/g), '<=', 45, 'of some 40 lines');
my ($promised) = TourDoc::slurp('README.md') =~ /^## Quick start\n.*?^```text\n(.*?)^```/ms;
my $printed = paste($parent, 'postgres', $quick // '', '-q', '-P', 'footer=off', '-v', 'SHOW_CONTEXT=never');
unlike($printed, qr/ERROR|psql failed|FATAL/, 'quick start: it runs as it stands') or diag($printed);
like(TourDoc::normalise($printed =~ s/[ \t]+$//mgr), qr/\Q${\ TourDoc::normalise($promised \/\/ 'nothing is promised')}\E/, 'quick start: and ends as README.md shows')
  or diag($printed);
$parent->safe_psql('postgres', 'DROP DATABASE IF EXISTS hq WITH (FORCE)');
$parent->safe_psql('postgres', "DROP DATABASE IF EXISTS $_ WITH (FORCE)") for qw(north south);
$parent->safe_psql('postgres', 'DROP ROLE planner, worker');    # the tour makes one of that name too

# ---- the tour ----------------------------------------------------------------------------------

$parent->safe_psql('postgres', 'CREATE DATABASE tour');
my @ports;
for my $name (qw(etl1 etl2 edge))
{
    my $node = $f->{nodes}{$name} = $f->make_node($name);
    $f->{mode}{$name} = $name eq 'edge' ? 'direct' : 'agent';
    push @{ $f->{children} }, $name;
    $node->safe_psql('postgres', "CREATE DATABASE $FleetTest::DB");
    $node->psql($FleetTest::DB, TourDoc::slurp('demo/tour_server.sql'), on_error_die => 1);
    $node->safe_psql($FleetTest::DB, 'CREATE EXTENSION pg_fleet') if $name ne 'edge';
    push @ports, '-v', "$name=" . $node->port;
}
my $output = paste($parent, 'tour', TourDoc::slurp('demo/tour.sql'), '-a', '-q', @ports);
my @shown = TourDoc::pieces_of_document(TourDoc::slurp('doc/tour.md'));
my @printed = TourDoc::pieces_of_output($output);
is(join(', ', map { $_->[0] } @shown), join(', ', map { $_->[0] } @printed), 'tour: the document has each piece, in order');
my %printed = map { @$_ } @printed;
for my $piece (@shown)
{
    my ($name, $text) = @$piece;
    is(TourDoc::normalise($printed{$name} // ''), TourDoc::normalise($text), "tour: $name") or diag($printed{$name});
}
$parent->safe_psql('postgres', 'DROP DATABASE tour WITH (FORCE)');

$f->done;
