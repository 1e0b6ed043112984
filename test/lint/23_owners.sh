#!/usr/bin/env bash
# Rule: fields of AgentRun, AgentTask and AgentServer are written by the files that own them, and no others
. "$(dirname "$0")/lib.sh"
# Every file of the agent is looked at with a copy of state.h in which the fields that it does not own
# are const, so that the compiler finds what writes them.  List nodes and heads belong to their lists.
owned=build/lint/owned
mkdir -p "$owned/agent"
perl -e '
    my %by = (AgentServer => "SERVER", AgentRun => "RUN", AgentTask => "TASK");
    my %other = (learned => "LEARN", estimates => "LEARN", learned_count => "LEARN",
        heard_written => "HEALTH", heard_due => "HEALTH", probe_due => "PROBE",
        map { $_ => "REMOTE" } qw(linked acknowledged unclear acknowledge reported_turn log_line_seq seen_first seen_state));
    my $owner;
    print "#define OF(type) const __typeof__(type)\n";
    for (qw(SERVER RUN TASK LEARN REMOTE HEALTH PROBE)) { print "#ifdef OWNS_$_\n#define OF_$_(type) type\n#else\n#define OF_$_(type) OF(type)\n#endif\n"; }
    while (<>)
    {
        $owner = $by{$1} if /^struct (\w+)$/;
        undef $owner if /^\}/;
        if ($owner && !/dlist_/ && /^    ((?:const |struct )?\w+ \**)((\w+)[\w, \[\]]*;.*)$/s)
        {
            my ($type, $rest, $name) = ($1, $2, $3);
            my $of = $other{$name} || $owner;
            $type =~ s/ $//;
            $_ = "    OF_$of($type) $rest";
        }
        print;
    }' src/agent/state.h >"$owned/agent/state.h"
include=$("${PG_CONFIG:-pg_config}" --includedir-server)
for f in src/agent/*.c; do
    [ -e "$f" ] || continue
    owns=()
    case $f in
        src/agent/run.c) owns=(-DOWNS_RUN) ;;
        src/agent/task.c) owns=(-DOWNS_TASK -DOWNS_REMOTE) ;;
        src/agent/server.c) owns=(-DOWNS_SERVER) ;;
        src/agent/remote.c) owns=(-DOWNS_REMOTE) ;;
        src/agent/learn.c) owns=(-DOWNS_LEARN) ;;
        src/agent/health.c) owns=(-DOWNS_HEALTH) ;;
        src/agent/probe.c) owns=(-DOWNS_PROBE) ;;
    esac
    breach "$("${CC:-cc}" -std=gnu11 -fsyntax-only -Werror=discarded-qualifiers "${owns[@]}" -I"$owned" -Isrc \
        -isystem "$include" "$f" 2>&1 | grep 'error: ')"
done
finish
