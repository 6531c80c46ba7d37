// SPDX-License-Identifier: MIT

// The rules of tidy.hpp over the whole tree, and a text for each rule that breaks it.

#include "layers.hpp"
#include "tidy.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace tidy_test {
namespace {

using namespace ublk_test;
namespace fs = std::filesystem;

const fs::path root{UBLK_SOURCE_DIR};

std::string read(const fs::path& path) {
    std::ifstream file{path, std::ios::binary};
    EXPECT_TRUE(file) << path;
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// Files below those directories of the tree that are there, by the end of their names.
std::vector<fs::path> files(const std::vector<std::string>& directories,
                            const std::vector<std::string>& endings) {
    std::set<fs::path> found;
    for (const std::string& directory : directories) {
        if (!fs::exists(root / directory)) {
            continue;
        }
        for (const fs::directory_entry& entry :
             fs::recursive_directory_iterator{root / directory}) {
            const std::string name = entry.path().filename().string();
            for (const std::string& ending : endings) {
                if (entry.is_regular_file() && name.ends_with(ending)) {
                    found.insert(entry.path());
                }
            }
        }
    }
    return {found.begin(), found.end()};
}

std::vector<fs::path> headers() {
    return files({"include/ublk"}, {".hpp"});
}

std::vector<fs::path> programs() {
    return files({"include", "examples", "tests", "benchmarks"}, {".hpp", ".cpp"});
}

/// All that people write here, but prose.
std::vector<fs::path> sources() {
    std::vector<fs::path> all =
        files({"include", "examples", "tests", "benchmarks", "cmake"},
              {".hpp", ".cpp", ".sh", ".cmake", ".cmake.in", "CMakeLists.txt"});
    all.push_back(root / "CMakeLists.txt");
    return all;
}

std::string in_ublk(const fs::path& header) {
    return fs::relative(header, root / "include/ublk").generic_string();
}

using rule = std::function<complaints(const fs::path&, const std::string&)>;

void expect_clean(const std::vector<fs::path>& paths, const rule& check) {
    EXPECT_GT(paths.size(), 5u) << "next to nothing was looked at in " << root;
    for (const fs::path& path : paths) {
        for (const std::string& complaint : check(path, read(path))) {
            ADD_FAILURE() << fs::relative(path, root).string() << ": " << complaint;
        }
    }
}

/// For rules that do not depend on the file.
rule any(complaints (*check)(const std::string&)) {
    return [check](const fs::path&, const std::string& text) { return check(text); };
}

/// For rules that depend on which header it is.
rule by_name(complaints (*check)(const std::string&, const std::string&)) {
    return [check](const fs::path& path, const std::string& text) {
        return check(in_ublk(path), text);
    };
}

TEST(tidy, lines_have_at_most_100_columns) {
    expect_clean(sources(), any(long_lines));
}

TEST(tidy, functions_fit_on_a_page) {
    expect_clean(programs(), any(long_functions));
}

TEST(tidy, headers_have_at_most_300_lines) {
    expect_clean(headers(), by_name(long_header));
}

/// All headers and what they include of each other.
include_graph graph_of_headers() {
    include_graph graph;
    for (const fs::path& header : headers()) {
        graph[in_ublk(header)] = own_includes(read(header));
    }
    return graph;
}

TEST(tidy, headers_include_only_what_is_below_their_folder) {
    const include_graph graph = graph_of_headers();
    EXPECT_GT(graph.size(), 100u);
    for (const auto& [name, includes] : graph) {
        for (const std::string& complaint : forbidden_includes(name, graph)) {
            ADD_FAILURE() << name << ": " << complaint;
        }
    }
    for (const auto& [folder, below] : layers) {
        EXPECT_TRUE(fs::is_directory(root / "include/ublk" / folder)) << folder;
    }
    for (const std::string& front : fronts) {
        EXPECT_TRUE(graph.contains(front)) << front;
    }
}

TEST(tidy, chains_of_includes_are_short) {
    const include_graph graph = graph_of_headers();
    for (const auto& [name, includes] : graph) {
        const std::vector<std::string> chain = longest_chain(name, graph);
        const bool circle = chain.size() > 1 && chain.front() == chain.back();
        EXPECT_FALSE(circle) << shown(chain);
        if (circle) {
            break;
        }
    }
    const std::vector<std::string> core = longest_chain("ublk.hpp", graph);
    EXPECT_LE(core.size() - 1, include_chain_max) << shown(core);
}

TEST(tidy, internal_folders_define_nothing_for_users) {
    for (const fs::path& header : headers()) {
        const std::string name = fs::relative(header, root / "include/ublk").string();
        EXPECT_EQ(names_outside_detail(name, read(header)), complaints{}) << name;
    }
}

TEST(tidy, only_what_users_name_is_outside_of_folders) {
    std::size_t count = 0;
    for (const auto& [name, includes] : graph_of_headers()) {
        count += folder_of(name).empty() ? 1 : 0;
    }
    EXPECT_LE(count, headers_of_the_root_max);
}

TEST(tidy, each_foreign_library_has_one_header) {
    expect_clean(headers(), by_name(foreign_includes));
}

TEST(tidy, nothing_is_dispatched_at_run_time) {
    expect_clean(headers(), by_name(dynamic_dispatch));
}

TEST(tidy, the_sector_size_appears_once) {
    expect_clean(headers(), by_name(bare_sectors));
}

TEST(tidy, headers_begin_with_licence_and_guard) {
    expect_clean(headers(), any(header_begins_wrong));
}

TEST(tidy, files_begin_with_their_licence) {
    expect_clean(sources(), any(licence_missing));
}

TEST(tidy, nothing_is_left_over) {
    expect_clean(sources(), any(leftovers));
}

TEST(tidy, public_docstrings_have_one_vocabulary) {
    expect_clean(files({"include/ublk"}, {".hpp"}), any(docstring_words));
}

TEST(tidy, no_path_of_one_machine) {
    expect_clean(sources(), any(local_paths));
}

TEST(tidy, no_name_of_a_package_archive) {
    expect_clean(sources(), any(network_addresses));
}

TEST(tidy, the_readme_begins_with_the_first_example) {
    if (!fs::exists(root / "README.md")) {
        std::cout << "there is no README.md yet\n";
        return;
    }
    EXPECT_EQ(first_code_block(read(root / "README.md")), read(root / "examples/hello.cpp"));
}

// Each rule finds what it is there for.

std::string repeat(const std::string& text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) {
        all += text;
    }
    return all;
}

TEST(tidy_rules, literals_and_comments_are_no_code) {
    EXPECT_EQ(code_of("a = 'b'; // c"), "a =    ;     ");
    EXPECT_EQ(code_of("f(\"x\\\"y\", 1'000) /* z\n */ g"), "f(      , 1'000)     \n    g");
    EXPECT_EQ(code_of("R\"(a \" b)\" c"), "           c");
    EXPECT_EQ(code_of("// end"), "      ");
}

TEST(tidy_rules, a_line_of_101_columns_is_too_long) {
    EXPECT_TRUE(long_lines(repeat("x", 100)).empty());
    EXPECT_TRUE(long_lines(repeat("\xc3\xa4", 100)).empty());
    EXPECT_EQ(long_lines("\n" + repeat("x", 101)).at(0), "line 2: 101 columns");
}

TEST(tidy_rules, a_function_of_71_lines_is_too_long) {
    const auto function = [](const std::string& head, int lines) {
        return head + " {\n" + repeat("    if (x) { y({}); }\n", lines - 2) + "}\n";
    };
    for (const char* head : {"int f()", "template <class T>\nT f(T a) noexcept",
                             "struct a {};\nTEST(a, b)", "namespace a { class b { b() : c{1}"}) {
        EXPECT_EQ(long_functions(function(head, 70)), complaints{}) << head;
        EXPECT_EQ(long_functions(function(head, 71)).size(), 1u) << head;
    }
    for (const char* head : {"struct alignas(8) a", "namespace a", "M(x)\nnamespace a::b",
                             "template <class T>\nclass a", "int a[] ="}) {
        EXPECT_EQ(long_functions(function(head, 71)), complaints{}) << head;
    }
}

TEST(tidy_rules, a_header_of_301_lines_is_too_long) {
    EXPECT_TRUE(long_header("queue.hpp", repeat("\n", 300)).empty());
    EXPECT_FALSE(long_header("queue.hpp", repeat("\n", 301)).empty());
    EXPECT_TRUE(long_header("uapi.hpp", repeat("\n", 500)).empty());
    EXPECT_FALSE(long_header("uapi.hpp", repeat("\n", 501)).empty());
}

TEST(tidy_rules, an_include_of_what_is_not_below_is_found) {
    const auto complains = [](const std::string& name, const std::string& text) {
        include_graph graph{{"units.hpp", {}},      {"device.hpp", {}},
                            {"data/queue.hpp", {}}, {"policy/batch_policy.hpp", {}},
                            {"control/c.hpp", {}},  {"sim/ring.hpp", {}}};
        graph[name] = own_includes(text);
        return !forbidden_includes(name, graph).empty();
    };
    EXPECT_FALSE(complains("request.hpp", "#include <ublk/units.hpp>"));
    EXPECT_TRUE(complains("request.hpp", "#include <ublk/device.hpp>"));
    EXPECT_TRUE(complains("request.hpp", "#include <ublk/data/queue.hpp>"));
    EXPECT_FALSE(complains("device.hpp", "#include <ublk/data/queue.hpp>"));
    EXPECT_TRUE(complains("request.hpp", "#  include \"units.hpp\""));
    EXPECT_TRUE(complains("request.hpp", "#include <ublk/unknown.hpp>"));
    EXPECT_TRUE(complains("unknown/folder.hpp", ""));
    EXPECT_TRUE(complains("data/x.hpp", "#include <ublk/device.hpp>"));
    EXPECT_TRUE(complains("data/x.hpp", "#include <ublk/control/c.hpp>"));
    EXPECT_TRUE(complains("control/x.hpp", "#include <ublk/data/queue.hpp>"));
    EXPECT_FALSE(complains("data/x.hpp", "#include <ublk/policy/batch_policy.hpp>"));
    EXPECT_TRUE(complains("policy/x.hpp", "#include <ublk/data/queue.hpp>"));
    EXPECT_TRUE(complains("data/x.hpp", "#include <ublk/sim/ring.hpp>"));
    EXPECT_FALSE(complains("sim/x.hpp", "#include <ublk/device.hpp>"));
}

TEST(tidy_rules, the_longest_chain_and_circles_are_found) {
    using names = std::vector<std::string>;
    const include_graph straight{{"a", {"c", "b"}}, {"b", {"c"}}, {"c", {}}};
    EXPECT_EQ(longest_chain("a", straight), (names{"a", "b", "c"}));
    EXPECT_EQ(longest_chain("c", straight), names{"c"});
    const include_graph circle{{"a", {"b"}}, {"b", {"c"}}, {"c", {"b"}}};
    EXPECT_EQ(longest_chain("a", circle), (names{"b", "c", "b"}));
}

TEST(tidy_rules, a_foreign_include_elsewhere_is_found) {
    EXPECT_TRUE(foreign_includes("kernel/ring.hpp", "#include <liburing.h>").empty());
    EXPECT_FALSE(foreign_includes("queue.hpp", "#include <liburing.h>").empty());
    EXPECT_TRUE(foreign_includes("features.hpp", "#include <boost/hana/tuple.hpp>").empty());
    EXPECT_FALSE(foreign_includes("features.hpp", "#include <boost/hana.hpp>").empty());
    EXPECT_FALSE(
        foreign_includes("disk_attributes.hpp", "#include <boost/hana/tuple.hpp>").empty());
    EXPECT_FALSE(foreign_includes("kernel/ring.hpp", "#include <range/v3/all.hpp>").empty());
}

TEST(tidy_rules, dispatch_at_run_time_is_found) {
    EXPECT_TRUE(dynamic_dispatch("x.hpp", "// virtual\nint virtually;").empty());
    EXPECT_FALSE(dynamic_dispatch("x.hpp", "virtual ~a();").empty());
    EXPECT_FALSE(dynamic_dispatch("x.hpp", "std::function<void()> f;").empty());
    EXPECT_FALSE(dynamic_dispatch("x.hpp", "dynamic_cast<b*>(a)").empty());
}

TEST(tidy_rules, a_bare_sector_size_is_found) {
    EXPECT_TRUE(
        bare_sectors("disk_attributes.hpp", "// 512 << 9\nx = 1512 + 5120 + (1 << 90);").empty());
    EXPECT_TRUE(bare_sectors("units.hpp", "s = 512;").empty());
    for (const char* code : {"s = 512;", "s = 512u;", "s << 9", "s >>= 9;", "s<<9", "0x200"}) {
        EXPECT_FALSE(bare_sectors("disk_attributes.hpp", code).empty()) << code;
    }
}

TEST(tidy_rules, a_missing_licence_is_found) {
    const std::string licence = "SPDX-License-Identifier: MIT";
    EXPECT_TRUE(licence_missing("# " + licence).empty());
    EXPECT_TRUE(licence_missing("#!/bin/sh\n# " + licence).empty());
    EXPECT_FALSE(licence_missing("").empty());
    EXPECT_FALSE(licence_missing("\n// " + licence).empty());
    EXPECT_TRUE(header_begins_wrong("// " + licence + "\n#pragma once\n").empty());
    EXPECT_FALSE(header_begins_wrong("// " + licence + "\n\n#pragma once\n").empty());
    EXPECT_FALSE(header_begins_wrong("#pragma once\n// " + licence).empty());
}

TEST(tidy_rules, names_outside_detail_are_found) {
    const std::string users = "namespace ublk::inline v0 {\nclass io;\n}  // namespace\n";
    EXPECT_TRUE(names_outside_detail("data/x.hpp", users).empty());
    EXPECT_TRUE(
        names_outside_detail("x.hpp", users + "namespace ublk::inline v0 {\nint f() {\n").empty());
    EXPECT_FALSE(
        names_outside_detail("data/x.hpp", "namespace ublk::inline v0 {\nstruct x {\n};\n}\n")
            .empty());
    EXPECT_TRUE(names_outside_detail("data/x.hpp",
                                     "namespace ublk::inline v0::detail {\nstruct x {\n};\n}\n")
                    .empty());
}

TEST(tidy_rules, words_of_docstrings_are_known_and_in_order) {
    EXPECT_TRUE(docstring_words("/// Reads.\n///\n/// Range: 1.\n/// Throws: `error`.\n").empty());
    EXPECT_TRUE(docstring_words("/// Throws: `error`.\nvoid f();\n/// Range: 1.\n").empty());
    EXPECT_FALSE(docstring_words("    /// Throws: `error`.\n    /// Range: 1.\n").empty());
    EXPECT_FALSE(docstring_words("/// Throws `error`.\n").empty());
    EXPECT_FALSE(docstring_words("/// Note: slow.\n").empty());
}

TEST(tidy_rules, leftovers_paths_and_addresses_are_found) {
    EXPECT_FALSE(leftovers(std::string{"// TO"} + "DO: more").empty());
    EXPECT_FALSE(leftovers(std::string{"# FIX"} + "ME").empty());
    EXPECT_FALSE(local_paths(std::string{"cd /ho"} + "me/me/x").empty());
    EXPECT_FALSE(local_paths(std::string{"\"/wo"} + "rk/x\"").empty());
    EXPECT_TRUE(local_paths("$dir/work/x").empty());
    EXPECT_FALSE(network_addresses(std::string{"deb ht"} + "tp://example.org/x").empty());
    EXPECT_FALSE(network_addresses(std::string{"ht"} + "tps://example.org").empty());
    EXPECT_TRUE(network_addresses("the archive that the machine itself uses").empty());
}

TEST(tidy_rules, the_first_code_block_is_found) {
    EXPECT_EQ(first_code_block("a\n```cpp\nb\nc\n```\nd\n```\ne\n```\n"), "b\nc\n");
}

}  // namespace
}  // namespace tidy_test
