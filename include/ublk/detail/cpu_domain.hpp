// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/cpu_set.hpp>

#include <cstdio>
#include <string>

namespace ublk::inline v0 {

/// CPUs that are close to each other.
enum class cpu_domain {
    none,
    l3,   ///< that share one last-level cache
    node  ///< that have the same memory near (NUMA)
};

}  // namespace ublk::inline v0

namespace ublk::inline v0::detail {

/// A list as sysfs has it: "0-3,8". What cannot be read is left out.
[[nodiscard]] inline cpu_set parse_cpu_list(const char* text) noexcept {
    cpu_set all;
    unsigned first = 0;
    int read = 0;
    while (std::sscanf(text, " %u%n", &first, &read) == 1) {
        text += read;
        unsigned last = first;
        if (std::sscanf(text, "-%u%n", &last, &read) == 1) {
            text += read;
        }
        for (unsigned cpu = first; cpu <= last && cpu < cpu_set::cpus_max; ++cpu) {
            all.insert(cpu);
        }
        if (*text != ',') {
            break;
        }
        ++text;
    }
    return all;
}

[[nodiscard]] inline cpu_set read_cpu_list(const std::string& path) {
    cpu_set all;
    if (std::FILE* const file = std::fopen(path.c_str(), "re"); file != nullptr) {
        char text[4096] = "";
        if (std::fgets(text, sizeof text, file) != nullptr) {
            all = parse_cpu_list(text);
        }
        (void)std::fclose(file);
    }
    return all;
}

/// The CPUs of the domain that has `cpu`, as sysfs tells below `devices`
/// (Documentation/ABI/stable/sysfs-devices-system-cpu). Where a machine tells of no L3 cache, those
/// of the node; empty where it does not tell of that either.
[[nodiscard]] inline cpu_set neighbours_of(unsigned cpu, cpu_domain domain,
                                           const std::string& devices = "/sys/devices/system") {
    cpu_set found;
    if (domain == cpu_domain::none) {
        return found;
    }
    if (domain == cpu_domain::l3) {
        found = read_cpu_list(devices + "/cpu/cpu" + std::to_string(cpu) +
                              "/cache/index3/shared_cpu_list");
    }
    constexpr unsigned nodes_max = 1024;
    for (unsigned node = 0; found.empty() && node < nodes_max; ++node) {
        const cpu_set members =
            read_cpu_list(devices + "/node/node" + std::to_string(node) + "/cpulist");
        if (members.contains(cpu)) {
            found = members;
        } else if (members.empty() && node != 0) {
            break;  // they are numbered without gaps on all but a few machines
        }
    }
    return found;
}

}  // namespace ublk::inline v0::detail
