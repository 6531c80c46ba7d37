// SPDX-License-Identifier: MIT
#include <ublk/detail/cpu_domain.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace cpu_domain_test {
namespace {

namespace fs = std::filesystem;
using ublk::cpu_domain;

std::vector<std::size_t> members(const ublk::cpu_set& all) {
    std::vector<std::size_t> found;
    for (std::size_t cpu = 0; cpu < ublk::cpu_set::cpus_max; ++cpu) {
        if (all.contains(cpu)) {
            found.push_back(cpu);
        }
    }
    return found;
}

using cpus = std::vector<std::size_t>;

TEST(cpu_list, is_numbers_and_ranges) {
    const auto parse = [](const char* text) { return members(ublk::detail::parse_cpu_list(text)); };
    EXPECT_EQ(parse("0\n"), (cpus{0}));
    EXPECT_EQ(parse("0-2,8,10-11\n"), (cpus{0, 1, 2, 8, 10, 11}));
    EXPECT_EQ(parse(""), (cpus{}));
    EXPECT_EQ(parse("\n"), (cpus{}));
    EXPECT_EQ(parse("3,x"), (cpus{3}));
    EXPECT_EQ(parse("5-4"), (cpus{}));
    EXPECT_EQ(parse("8190-9000000"), (cpus{8190, 8191}));
}

/// A machine as sysfs would tell of it.
class neighbours : public ::testing::Test {
protected:
    neighbours() : root_{fs::temp_directory_path() / ("ublk-cpus-" + std::to_string(::getpid()))} {
        fs::remove_all(root_);
    }
    ~neighbours() override { fs::remove_all(root_); }

    void write(const std::string& file, const std::string& text) const {
        fs::create_directories((root_ / file).parent_path());
        std::ofstream{root_ / file} << text << '\n';
    }
    [[nodiscard]] cpus of(unsigned cpu, cpu_domain domain) const {
        return members(ublk::detail::neighbours_of(cpu, domain, root_.string()));
    }

private:
    fs::path root_;
};

TEST_F(neighbours, share_the_cache_or_the_node) {
    write("cpu/cpu5/cache/index3/shared_cpu_list", "4-7");
    write("node/node0/cpulist", "0-3");
    write("node/node1/cpulist", "4-11");
    EXPECT_EQ(of(5, cpu_domain::l3), (cpus{4, 5, 6, 7}));
    EXPECT_EQ(of(5, cpu_domain::node), (cpus{4, 5, 6, 7, 8, 9, 10, 11}));
    EXPECT_EQ(of(5, cpu_domain::none), (cpus{}));
}

TEST_F(neighbours, without_a_cache_are_those_of_the_node) {
    write("node/node0/cpulist", "0-3");
    EXPECT_EQ(of(2, cpu_domain::l3), (cpus{0, 1, 2, 3}));
}

TEST_F(neighbours, of_an_unknown_machine_are_none) {
    EXPECT_EQ(of(0, cpu_domain::l3), (cpus{}));
    write("node/node0/cpulist", "0-3");
    EXPECT_EQ(of(9, cpu_domain::node), (cpus{}));
}

TEST_F(neighbours, of_a_node_without_cpus_do_not_end_the_search) {
    write("node/node0/cpulist", "");
    write("node/node1/cpulist", "0-1");
    EXPECT_EQ(of(1, cpu_domain::node), (cpus{0, 1}));
}

}  // namespace
}  // namespace cpu_domain_test
