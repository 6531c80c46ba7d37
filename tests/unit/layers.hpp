// SPDX-License-Identifier: MIT
#pragma once

// Which header may include which, by folders. tidy_test.cpp holds the tree against it.

#include "tidy.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace ublk_test {

/// Headers by their names relative to include/ublk, and what they include of each other.
using include_graph = std::map<std::string, std::vector<std::string>>;

inline constexpr std::size_t headers_of_the_root_max = 30;
inline constexpr std::size_t include_chain_max = 9;

/// Folders that the headers of a folder may include, beside their own. "" is include/ublk itself.
inline const std::map<std::string, std::set<std::string>> layers{
    {"detail", {""}},
    {"kernel", {"", "detail"}},
    {"policy", {"", "detail"}},
    {"coroutine", {"", "detail", "kernel"}},
    {"control", {"", "detail", "kernel"}},
    {"data", {"", "detail", "kernel", "policy", "coroutine"}},
    {"device", {"", "detail", "kernel", "policy", "control", "data"}},
    {"backends", {"", "detail", "coroutine", "data"}},
    {"", {"detail", "kernel", "policy", "coroutine"}},
    {"sim",
     {"", "detail", "kernel", "policy", "coroutine", "control", "data", "device", "sim/laws"}},
    {"sim/laws", {"", "detail", "kernel", "policy", "data", "sim", "backends"}},
};

/// Headers of include/ublk that stand above all folders but the simulator: these may include
/// anything below, and only each other and the simulator include them.
inline const std::set<std::string> fronts{"control.hpp", "device.hpp", "separate_compilation.hpp",
                                          "thread_set.hpp", "ublk.hpp"};

inline std::string folder_of(const std::string& name) {
    const std::size_t slash = name.rfind('/');
    return slash == name.npos ? "" : name.substr(0, slash);
}

/// The headers of ours that `text` includes; what is not written <ublk/...> by its name.
inline std::vector<std::string> own_includes(const std::string& text) {
    const std::string ours = "<ublk/";
    std::vector<std::string> found;
    for (const std::string& include : includes_of(text)) {
        if (include.starts_with(ours)) {
            found.push_back(include.substr(ours.size()));
        } else if (include.starts_with('"')) {
            found.push_back(include);
        }
    }
    return found;
}

/// Includes of `name` that the layers forbid, and of what is not there.
inline complaints forbidden_includes(const std::string& name, const include_graph& graph) {
    const std::string folder = folder_of(name);
    const bool simulator = folder.starts_with("sim");
    const auto allowed = layers.find(folder);
    if (allowed == layers.end()) {
        return {"is in a folder without a layer: give it one in tests/unit/layers.hpp"};
    }
    complaints found;
    for (const std::string& target : graph.at(name)) {
        const std::string to = folder_of(target);
        if (!graph.contains(target)) {
            found.push_back("includes " + target + ", which is no header of ours: <ublk/...>");
        } else if (fronts.contains(target) && !fronts.contains(name) && !simulator) {
            found.push_back("includes " + target + ", which stands above it");
        } else if (to != folder && !allowed->second.contains(to) && !fronts.contains(name)) {
            found.push_back("includes " + target + ", a folder that is not below its own");
        }
    }
    return found;
}

/// Internal folders define nothing in `ublk` itself. A forward declaration there is none.
inline complaints names_outside_detail(const std::string& name, const std::string& text) {
    static const std::set<std::string> internal{"control", "coroutine", "data", "device", "kernel"};
    if (!internal.contains(folder_of(name))) {
        return {};
    }
    complaints found;
    bool outside = false;
    const std::vector<std::string> lines = lines_of(code_of(text));
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (lines[i].starts_with("namespace ublk::inline v0")) {
            outside = !lines[i].starts_with("namespace ublk::inline v0::detail ");
        } else if (lines[i].starts_with("}")) {
            outside = false;
        } else if (outside && lines[i].find_first_not_of(' ') == 0 && !lines[i].ends_with(";")) {
            found.push_back(at(i, "belongs into ublk::detail: " + lines[i]));
        }
    }
    return found;
}

/// The longest chain of includes from `name` on, itself included; where there is a circle, it.
inline std::vector<std::string>
longest_chain(const std::string& name, const include_graph& graph,
              std::map<std::string, std::vector<std::string>>& known,
              std::vector<std::string>& way) {
    if (const auto before = std::find(way.begin(), way.end(), name); before != way.end()) {
        std::vector<std::string> circle{before, way.end()};
        circle.push_back(name);
        return circle;
    }
    if (const auto done = known.find(name); done != known.end()) {
        return done->second;
    }
    way.push_back(name);
    std::vector<std::string> longest;
    if (const auto here = graph.find(name); here != graph.end()) {
        for (const std::string& target : here->second) {
            std::vector<std::string> chain = longest_chain(target, graph, known, way);
            if (chain.size() > 1 && chain.front() == chain.back()) {
                return chain;
            }
            if (chain.size() > longest.size()) {
                longest = std::move(chain);
            }
        }
    }
    way.pop_back();
    longest.insert(longest.begin(), name);
    known[name] = longest;
    return longest;
}

inline std::vector<std::string> longest_chain(const std::string& name, const include_graph& graph) {
    std::map<std::string, std::vector<std::string>> known;
    std::vector<std::string> way;
    return longest_chain(name, graph, known, way);
}

inline std::string shown(const std::vector<std::string>& chain) {
    std::string all;
    for (const std::string& each : chain) {
        all += (all.empty() ? "" : " > ") + each;
    }
    return all;
}

}  // namespace ublk_test
