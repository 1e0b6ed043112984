# Parents and servers whose databases have different encodings, in both modes: what one of them lacks
# arrives escaped, or fails the task that has it and nothing else.
use strict;
use warnings;
use FakeServer;
use FleetTest qw(quote_literal);
use Test::More;

$ENV{PGCLIENTENCODING} = 'UTF8';
my $f = FleetTest->new(agents => 1, register => 0, witness => 0, delays => 0);
my @encodings = qw(UTF8 LATIN1 EUC_JP SQL_ASCII);

# What each kind of server has that others lack: as its own SQL makes it; what it is.
my %odd = (
    UTF8      => q{chr(233) || chr(26085) || chr(8364) || chr(128512)},
    LATIN1    => q{chr(233) || chr(173)},
    EUC_JP    => q{convert_from('\xc6fc'::bytea, 'EUC_JP') || convert_from('\xa9a1'::bytea, 'EUC_JP')},    # the second has no number
    SQL_ASCII => q{chr(233) || chr(195) || chr(169) || chr(230) || chr(151)},                              # bytes
);
my ($E, $NICHI, $EURO, $SMILE, $SHY) = ("\xc3\xa9", "\xe6\x97\xa5", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xc2\xad");
my %arrives = (    # at a parent in UTF8; at others where it differs
    UTF8      => { UTF8 => "$E$NICHI$EURO$SMILE", LATIN1 => "$E\\u65E5\\u20AC\\uD83D\\uDE00", EUC_JP => "$E$NICHI\\u20AC\\uD83D\\uDE00" },
    LATIN1    => { UTF8 => "$E$SHY", EUC_JP => "$E\\u00AD" },
    EUC_JP    => { UTF8 => "$NICHI\\xA9\\xA1", LATIN1 => "\\u65E5\\xA9\\xA1" },
    SQL_ASCII => { UTF8 => "\\xE9$E\\xE6\\x97" },
);
# A word that a parent can say and some servers cannot: as the parent's SQL makes it, and who can read it.
my %word = (
    UTF8      => { sql => 'chr(8364)', is => $EURO, number => '20ac', read => { UTF8 => 1, SQL_ASCII => 1 } },
    LATIN1    => { sql => 'chr(173)', is => $SHY, read => { UTF8 => 1, LATIN1 => 1, SQL_ASCII => 1 } },
    EUC_JP    => { sql => q{convert_from('\xc6fc'::bytea, 'EUC_JP')}, is => $NICHI, read => { UTF8 => 1, EUC_JP => 1, SQL_ASCII => 1 } },
    SQL_ASCII => { sql => 'chr(226) || chr(130) || chr(172)', is => $EURO, read => { UTF8 => 1, SQL_ASCII => 1 } },
);
my %untranslatable = (
    UTF8   => 'character with byte sequence 0xe2 0x82 0xac in encoding "UTF8" has no equivalent in encoding "%s"',
    LATIN1 => 'character with byte sequence 0xc2 0xad in encoding "UTF8" has no equivalent in encoding "%s"',
    EUC_JP => 'character with byte sequence 0xe6 0x97 0xa5 in encoding "UTF8" has no equivalent in encoding "%s"',
);
$untranslatable{SQL_ASCII} = $untranslatable{UTF8};

# As one statement after the other in psql: the last answers, or "failed: " and what it said.
sub at
{
    my ($node, $db, $sql) = @_;
    return at_once($node, $db, $sql) if $sql =~ /\\/;
    my ($rc, $out, $err) = $f->kept($node, $db)->run($sql);
    return $rc == 0 ? $out : "failed: $err";
}

sub at_once
{
    my ($node, $db, $sql) = @_;
    my ($out, $err);
    my $rc = $f->node($node)->psql($db, $sql, stdout => \$out, stderr => \$err, on_error_stop => 1,
        timeout => 2 * $FleetTest::PATIENCE, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
    return $rc == 0 ? $out : "failed: $err";
}

sub wait_at
{
    my ($db, $sql, $expected, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($out, $end) = ('', time + $FleetTest::PATIENCE);
    while (time < $end && ($out = at('parent', $db, $sql)) ne $expected)
    {
        select undef, undef, undef, 0.05; # (time passes) between two looks
    }
    return is($out, $expected, $name);
}

# ---- servers -------------------------------------------------------------------------------------

for my $e (@encodings)
{
    my $db = 's_' . lc $e;
    $f->node('a1')->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$e' LOCALE 'C' TEMPLATE template0");
    is(at('a1', $db, <<"SQL"), '', "server in $e");
CREATE EXTENSION pg_fleet;
ALTER ROLE etl IN DATABASE $db SET client_encoding = '@{[ $e eq 'UTF8' ? 'LATIN1' : 'UTF8' ]}';
CREATE SCHEMA etl AUTHORIZATION etl;
SET ROLE etl;
CREATE FUNCTION etl.odd() RETURNS text LANGUAGE sql AS \$\$SELECT $odd{$e}\$\$;
CREATE FUNCTION etl.param() RETURNS text LANGUAGE sql AS \$\$SELECT current_setting('fleet.params')::jsonb ->> 'p'\$\$;
CREATE FUNCTION etl.tell() RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    RAISE WARNING USING MESSAGE = 'm ' || etl.odd(), DETAIL = 'd ' || etl.odd(), HINT = 'h ' || etl.odd(), ERRCODE = '01234';
END \$\$;
CREATE FUNCTION etl.fail() RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    RAISE EXCEPTION USING MESSAGE = 'm ' || etl.odd(), DETAIL = 'd ' || etl.odd(), HINT = 'h ' || etl.odd(), ERRCODE = 'P0042';
END \$\$;
DO \$\$ BEGIN EXECUTE format('CREATE FUNCTION etl.%I() RETURNS void LANGUAGE plpgsql AS %L', etl.odd(), 'BEGIN PERFORM etl.fail(); END'); END \$\$;
DO \$\$ BEGIN
    PERFORM fleet.create_job('own');
    PERFORM fleet.add_step('own', CASE WHEN '$e' IN ('EUC_JP', 'SQL_ASCII') THEN 'own' ELSE etl.odd() END, 'SELECT 1');
EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END \$\$;
SQL
}

# ---- parents -------------------------------------------------------------------------------------

# Is that the text, repeated, to an end that is between two characters or escapes?
sub is_whole
{
    my ($message, $text) = @_;
    my @units = $text =~ /(\\uD83D\\uDE00|\\u[0-9A-F]{4}|\\x[0-9A-F]{2}|[\x00-\x7f]|[\xc0-\xff][\x80-\xbf]+)/g;
    return 0 unless $message =~ s/^a(?:\Q$text\E)+//;
    while ($message ne '')
    {
        my $unit = shift @units;
        return 0 unless defined $unit && index($message, $unit) == 0;
        $message = substr($message, length $unit);
    }
    return 1;
}

my $password = quote_literal($FleetTest::PASSWORD);
sub define
{
    my ($db) = @_;
    my $servers = join '', map {
        my ($e, $name) = ($_, lc $_);
        map { "SELECT fleet.add_server('${name}_$_', 'host=127.0.0.1 port=" . $f->node('a1')->port . " dbname=s_$name sslmode=disable',"
              . " username => 'etl', password => $password, mode => '$_', slots => 2, groups => '{$_}');\n" } qw(agent direct);
    } @encodings;
    my $tasks = sub {
        my ($package, $job) = @_;
        return "SELECT fleet.create_package('$package', params => '{\"p\": \"-\"}');\n" . join '', map {
            my $name = lc $_;
            map { "SELECT fleet.add_task('$package', '${name}_$_', job => '$job', server => '${name}_$_');\n" } $job eq 'own' ? 'agent' : qw(agent direct);
        } @encodings;
    };
    like(at('parent', $db, "CREATE EXTENSION pg_fleet;\n$servers" . <<'SQL'
SELECT fleet.create_job('talk');
SELECT fleet.add_step('talk', 'tell', 'SELECT etl.tell()');
SELECT fleet.add_step('talk', 'value', 'SELECT etl.odd()');
SELECT fleet.create_job('json');
SELECT fleet.add_step('json', 'value', $$SELECT json_build_object('a', etl.odd())$$);
SELECT fleet.create_job('fails');
SELECT fleet.add_step('fails', 's', $$DO 'BEGIN EXECUTE format(''SELECT etl.%I()'', etl.odd()); END'$$);
SELECT fleet.create_job('hear');
SELECT fleet.add_step('hear', 's', $$SELECT length(etl.param()) || ' ' || encode(convert_to(etl.param(), getdatabaseencoding()), 'hex') || ' ' || etl.param()$$);
SELECT fleet.create_job('long');
SELECT fleet.add_step('long', 's', $$DO 'BEGIN RAISE NOTICE USING MESSAGE = ''a'' || repeat(etl.odd(), 30000); END'$$);
SELECT fleet.create_job('sets');
SELECT fleet.add_step('sets', 's', $$SELECT set_config('client_encoding', CASE getdatabaseencoding() WHEN 'UTF8' THEN 'LATIN1' ELSE 'UTF8' END, false)$$);
SELECT fleet.add_step('sets', 'value', 'SELECT etl.odd()');
SELECT fleet.create_job('sets_and_fails');
SELECT fleet.add_step('sets_and_fails', 's', $$SELECT set_config('client_encoding', CASE getdatabaseencoding() WHEN 'UTF8' THEN 'LATIN1' ELSE 'UTF8' END, false); SELECT etl.fail()$$);
SELECT fleet.create_job('where');
SELECT fleet.add_step('where', 's', $$SELECT current_setting('fleet.context')::jsonb ->> 'package'$$);
SELECT count(d.*) FROM unnest('{talk,json,fails,hear,where,long,sets,sets_and_fails}'::text[]) AS j (job), fleet.deploy_job(j.job, on_group => 'agent', replace => true) AS d;
SQL
        . join('', map { $tasks->($_, $_) } qw(talk json fails hear where long sets sets_and_fails own)) . "SELECT 'ready'"), qr/ready$/, "$db: servers and packages");
    return;
}

sub run_of
{
    my ($db, $package, $params) = @_;
    my $run = at('parent', $db, "SELECT fleet.run_parent_package('$package', params => " . ($params || q('{}')) . ')');
    return ($run, at('parent', $db, "SELECT fleet.wait_for_run($run, timeout => '${FleetTest::PATIENCE}s')"));
}

for my $e (@encodings)
{
    my $db = 'p_' . lc $e;
    $f->parent->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$e' LOCALE 'C' TEMPLATE template0");
    define($db);
    wait_at($db, q{SELECT count(*), min(state), max(state) FROM fleet.deployment}, '32|deployed|deployed', "$e: jobs are deployed to servers of every encoding");
    my $task = sub { my ($run, $name, $columns) = @_; return at('parent', $db, "SELECT $columns FROM fleet.task_run WHERE run_id = $run AND task = '$name'"); };

    my ($talk, $state) = run_of($db, 'talk');
    is($state, 'succeeded', "$e: the servers talk");
    my ($json) = run_of($db, 'json');
    my ($fails, $failed) = run_of($db, 'fails');
    is($failed, 'failed', "$e: they fail");
    my ($own) = run_of($db, 'own');
    my ($long) = run_of($db, 'long');
    my ($sets) = run_of($db, 'sets');
    my ($sets_and_fails) = run_of($db, 'sets_and_fails');
    my $w = $word{$e};
    my ($hear) = run_of($db, 'hear', "jsonb_build_object('p', $w->{sql})");
    my $where = at('parent', $db, "SELECT fleet.alter_package('where', new_name => 'where ' || $w->{sql}); SELECT fleet.run_parent_package('where ' || $w->{sql})") =~ s/\A\n//r;
    is(at('parent', $db, "SELECT fleet.wait_for_run($where, timeout => '${FleetTest::PATIENCE}s')"), 'succeeded', "$e: names in the context fail nothing, anywhere");

    for my $s (@encodings)
    {
        my $odd = $arrives{$s}{$e} // $arrives{$s}{UTF8};
        for my $mode (qw(agent direct))
        {
            my $server = lc($s) . "_$mode";
            my $from = "$e from $s, $mode";
            is($task->($talk, $server, 'state, output'), "succeeded|$odd", "$from: a value");
            is(at('parent', $db, "SELECT message, detail, hint, sqlstate FROM fleet.log WHERE run_id = $talk AND task = '$server' AND level = 'WARNING'"),
                "m $odd|d $odd|h $odd|01234", "$from: a line of the log");
            is($task->($json, $server, 'output'), qq({"a" : "$odd"}), "$from: JSON");
            is($task->($json, $server, q{output::json ->> 'a' IS NOT NULL}), 't', "$from: … which is JSON still")
              unless $odd =~ /\\x/ || $e ne 'UTF8' && $odd =~ /\\u/; # ->> gives text, which those lack
            is(at('parent', $db, "SELECT (output::json) IS NOT NULL FROM fleet.task_run WHERE run_id = $json AND task = '$server'"), 't', "$from: … as json")
              unless $odd =~ /\\x/;
            is($task->($fails, $server, 'state, sqlstate, message'), "failed|P0042|m $odd", "$from: an error");
            is(at('parent', $db, "SELECT detail, hint, strpos(context, " . quote_literal($odd) . ") > 0 FROM fleet.log WHERE run_id = $fails AND task = '$server' AND level = 'ERROR' AND sqlstate = 'P0042' ORDER BY seq LIMIT 1"),
                "d $odd|h $odd|t", "$from: … with detail, hint and context");
            my ($line, $bytes) = (at('parent', $db, "SELECT message FROM fleet.log WHERE run_id = $long AND task = '$server' AND level = 'NOTICE'"),
                at('parent', $db, "SELECT octet_length(message) BETWEEN 65536 / 6 AND 65536 FROM fleet.log WHERE run_id = $long AND task = '$server' AND level = 'NOTICE'"));
            ok(is_whole($line, $odd), "$from: a long line is cut between two characters") or diag(substr($line, 0, 60), ' … ', substr($line, -60));
            is($bytes, 't', "$from: … and is as long as a line may be");
            if ($mode eq 'agent' || $s eq 'LATIN1')
            {
                is($task->($sets, $server, 'state, output'), "succeeded|$odd", "$from: a step that sets client_encoding");
            }
            else # as in psql
            {
                is($task->($sets, $server, 'state, sqlstate'), 'failed|' . ($s eq 'SQL_ASCII' ? '22021' : '22P05'), "$from: a step that sets client_encoding to one that lacks what it says");
            }
            is($task->($sets_and_fails, $server, 'state, message'), "failed|m $odd", "$from: an error that its own client_encoding lacks") if $mode eq 'agent';
            my $told = $w->{read}{$s} ? quotemeta $w->{is} : '\?+';
            like($task->($where, $server, 'output'), qr/^where $told$/, "$e to $s, $mode: a name in the context, as far as it can be said there");
            if ($w->{read}{$s})
            {
                like($task->($hear, $server, 'state, output'), qr/^succeeded\|[1-3] [0-9a-f]+ \Q$w->{is}\E$/, "$e to $s, $mode: a parameter");
            }
            else
            {
                my $why = sprintf $untranslatable{$e}, $s;
                is($task->($hear, $server, 'state, sqlstate'), 'failed|22P05', "$e to $s, $mode: a parameter that cannot be said there");
                like($task->($hear, $server, 'message'), qr/\Q$why\E$/, "$e to $s, $mode: … and which character");
            }
            is(at('parent', $db, "SELECT coalesce(last_error, '') !~ 'encoding', state FROM fleet.server_status WHERE server = '$server'"), 't|online', "$from: it is no error of the link");
        }
        my $name = $s =~ /EUC_JP|SQL_ASCII/ ? 'own' : $odd;
        is(at('parent', $db, "SELECT step FROM fleet.job_log WHERE run_id = $own AND task = '" . lc($s) . "_agent'"), $name, "$e from $s: the name of a step of its own job");
    }
}
# ---- what a parent is not given ------------------------------------------------------------------

for my $case (
    [ p_sql_ascii => 'chr(233)', '22021', 'invalid byte sequence for encoding "UTF8": 0xe9' ],
    [ p_euc_jp => q{convert_from('\xa9a1'::bytea, 'EUC_JP')}, '22P05', 'character with byte sequence 0xa9 0xa1 in encoding "EUC_JP" has no equivalent in encoding "UTF8"' ])
{
    my ($db, $text, $sqlstate, $message) = @$case;
    my $is = "failed: psql:<stdin>:1: ERROR:  $sqlstate: $message";
    for my $call (
        "create_package($text)", "create_package('x', params => jsonb_build_object('p', $text))", "create_job('x', params => jsonb_build_object($text, 1))",
        "add_task('talk', 'x', sql => 'SELECT ' || quote_literal($text))", "add_step('talk', $text, 'SELECT 1')", "add_task('talk', 'x', sql => 'SELECT 1', after => ARRAY[$text])",
        "run_parent_package('hear', params => jsonb_build_object('p', $text))", "run_parent_package('talk', run_key => $text)")
    {
        is(substr(at_once('parent', $db, "SELECT fleet.$call"), 0, length $is), $is, "$db: $call");
    }
    for my $mode (qw(agent direct))
    {
        my $package = "items_$mode";
        like(at('parent', $db, "SELECT fleet.create_package('$package'); SELECT fleet.add_task('$package', 'each', job => 'hear', server => 'utf8_$mode',"
              . " for_each => \$\$SELECT jsonb_build_object('p', p) FROM (VALUES ('1'), ($text), ('3')) AS v (p)\$\$); SELECT 'ready'"), qr/ready$/, "$db, $mode: items");
        my ($run, $state) = run_of($db, $package);
        is(at('parent', $db, "SELECT string_agg(item || ' ' || state || ' ' || coalesce(sqlstate, '-'), ', ' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND item > 0"),
            "1 succeeded -, 2 failed $sqlstate, 3 succeeded -", "$db, $mode: an item that cannot be sent fails alone");
    }
}

# What a definition has that a server cannot read, at a parent in UTF8.
at('parent', 'p_utf8', <<"SQL");
SELECT fleet.create_job('$EURO'); SELECT fleet.add_step('$EURO', 's', 'SELECT 1');
SELECT fleet.create_job('euro'); SELECT fleet.add_step('euro', 's', 'SELECT ''$EURO''');
SELECT fleet.create_job('step'); SELECT fleet.add_step('step', '$EURO', 'SELECT 1');
SELECT count(d.*) FROM unnest('{$EURO,euro,step}'::text[]) AS j (job), fleet.deploy_job(j.job, on_group => 'agent', replace => true) AS d;
SELECT fleet.create_package('defined');
SELECT fleet.add_task('defined', 'name', job => '$EURO', server => 'latin1_direct');
SELECT fleet.add_task('defined', 'sql', job => 'euro', server => 'latin1_direct');
SELECT fleet.add_task('defined', 'step', job => 'step', server => 'latin1_direct');
SELECT fleet.add_task('defined', 'start', job => '$EURO', server => 'latin1_agent');
SELECT fleet.add_task('defined', 'beside', job => 'json', server => 'latin1_agent');
SQL
wait_at('p_utf8', q{SELECT string_agg(DISTINCT state || ' ' || server, ', ') FROM fleet.deployment WHERE job IN (chr(8364), 'euro', 'step')},
    'deployed sql_ascii_agent, deployed utf8_agent, failed euc_jp_agent, failed latin1_agent', 'definitions with a character that two servers lack');
is(at('parent', 'p_utf8', q{SELECT DISTINCT message FROM fleet.deployment WHERE job = 'euro' AND server = 'latin1_agent'}),
    'definition of the job: ' . sprintf($untranslatable{UTF8}, 'LATIN1'), '… and why');
my ($defined) = run_of('p_utf8', 'defined');
is(at('parent', 'p_utf8', "SELECT string_agg(task || ' ' || state || ' ' || coalesce(sqlstate, '-'), ', ' ORDER BY task) FROM fleet.task_run WHERE run_id = $defined"),
    'beside succeeded -, name succeeded -, sql failed 22P05, start failed 22P05, step succeeded -', 'each fails where it cannot be said, and alone');

# The token that a parent shows is the one that it sent, whatever its encoding.
at('parent', 'p_latin1', "SELECT fleet.create_package('$E'); SELECT fleet.add_task('$E', '$E', job => 'json', server => 'utf8_agent')");
my ($named) = run_of('p_latin1', $E);
my $token = at('parent', 'p_latin1', "SELECT token FROM fleet.task_run WHERE run_id = $named");
is(at('a1', 's_utf8', "SELECT count(*) FROM fleet_catalog.job_run WHERE token = '$token'"), '1', 'a token of a task whose name is not ASCII');

# ---- before the encoding is known ----------------------------------------------------------------

my $fake = FakeServer->new;
my $error = "SFATAL\0VFATAL\0C53300\0Mf\xfcr \x80\0\0"; # LATIN1, and a byte that is nothing in UTF-8
$fake->rules([ on => '^startup', send => [ [ 'raw', unpack('H*', 'E' . pack('N', 4 + length $error) . $error) ], 'close' ] ]);
for my $db (qw(p_utf8 p_euc_jp p_sql_ascii))
{
    at('parent', $db, "SELECT fleet.add_server('fake', '" . $fake->conninfo . "', username => 'etl', password => 'x', mode => 'direct', slots => 1);"
          . "SELECT fleet.create_package('fake'); SELECT fleet.add_task('fake', 't', job => 'json', server => 'fake'); SELECT fleet.run_parent_package('fake')");
    wait_at($db, q{SELECT right(last_error, 11) FROM fleet.server_status WHERE server = 'fake'}, 'f\xFCr \x80', "$db: what a server says before the login is text");
    at('parent', $db, q{SELECT fleet.cancel_run(max(run_id)) FROM fleet.run});
}

for my $e (map { lc } @encodings)
{
    $f->forget($_) for qw(parent a1);
    $f->parent->safe_psql('postgres', "DROP DATABASE p_$e (FORCE)");
    $f->node('a1')->safe_psql('postgres', "DROP DATABASE s_$e (FORCE)");
}
$f->done(made => 1);
