# Splits what "apt-cache dumpavail" prints into one file an archive section, and counts while at it:
# the same totals that the fleet will compute from the files, by other means.
#
#   awk -v dir=DIRECTORY -f split.awk    writes DIRECTORY/<section>.txt and DIRECTORY/totals
#
# A record ends at an empty line; a line that begins with a blank continues the field before it.
function flush_record(    file, n, i, m, parts, alternatives)
{
    if (record == "")
        return
    if (section == "")
        section = "none"
    gsub("/", "-", section)
    file = dir "/" section ".txt"
    printf "%s\n", record > file
    packages++
    bytes += size
    kilobytes += installed
    n = split(depends, parts, ",")
    for (i = 1; i <= n; i++)
    {
        if (parts[i] !~ /[^ ]/)
            continue
        dependencies++
        m += split(parts[i], alternatives, "|")
    }
    targets += m
    record = section = depends = ""
    size = installed = 0
}
/^$/ { flush_record(); next }
{ record = record $0 "\n" }
/^Section: / { section = substr($0, 10) }
/^Size: / { size = $2 }
/^Installed-Size: / { installed = $2 }
/^(Depends|Pre-Depends): / { depends = depends "," substr($0, index($0, ": ") + 2) }
END {
    flush_record()
    printf "%d|%.0f|%.0f|%d|%d\n", packages, bytes, kilobytes, dependencies, targets > (dir "/totals")
}
