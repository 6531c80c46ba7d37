// SPDX-License-Identifier: MIT

// SIGKILL of servers under fio, which verifies all that it was told is written.

#include "fio.hpp"
#include "recovery.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <set>

namespace ublk_test {
namespace recovery_fio_test {
namespace {

using ublk::data_path;
using ublk::recovery_kind;
using enum ublk::recovery_kind;

/// How often a server is killed while fio writes and verifies: 5, or UBLK_KILLS.
[[nodiscard]] int kills() {
    const char* const wanted = std::getenv("UBLK_KILLS");
    return wanted != nullptr ? std::atoi(wanted) : 5;
}

/// Bytes that fio writes: as long as that takes, servers are killed.
[[nodiscard]] std::uint64_t size() {
    return std::uint64_t{8} * 1024 * 1024 * static_cast<std::uint64_t>(std::max(5, kills())) / 5;
}

struct cell {
    recovery_kind kind;
    data_path path;
};

std::string name_of(const testing::TestParamInfo<cell>& info) {
    return std::string{to_string(info.param.kind)} + "_" + std::string{to_string(info.param.path)};
}

class killed_servers : public recovery_tests, public testing::WithParamInterface<cell> {
protected:
    [[nodiscard]] static bool possible() {
        const std::uint64_t needs =
            ublk::features_of(GetParam().path) | ublk::detail::features_of(GetParam().kind);
        return (needs & ~open_control().get_features()) == 0;
    }

    /// What clients see of the death of a server.
    [[nodiscard]] static std::set<int> may_see() {
        switch (GetParam().kind) {
        case fail_in_flight:
            return {EIO};
        case fail_io:
            return {EIO, EREMOTEIO};
        default:
            return {};
        }
    }

    /// fio goes on after those errors, and leaves the writes that failed out of what it verifies.
    [[nodiscard]] static std::string verified_writes(const std::string& node) {
        std::vector<std::pair<std::string, std::string>> lines{
            {"rw", "randwrite"}, {"bs", "4k"}, {"size", text(size())}, {"rate_iops", "400"}};
        if (!may_see().empty()) {
            lines.emplace_back("continue_on_error", "io");
            lines.emplace_back("ignore_error", "EIO:121,EIO:121");  // EREMOTEIO has no name there
        }
        return globals(node, "io_uring", 16) + section("all", lines);
    }
};

TEST_P(killed_servers, lose_nothing_that_clients_were_told_is_written) {
    if (!possible()) {
        GTEST_SKIP() << "this kernel has no such path or kind of recovery";
    }
    const scratch disk{"killed", size()};
    const ublk::options requested = recoverable(GetParam().path, GetParam().kind);
    std::unique_ptr<child_process> serving = server(disk.path(), requested);
    const std::string id = serving->hear(long_patience);
    fio_run done;
    meanwhile clients{"fio", [&done, id] { done = fio(verified_writes("/dev/ublkb" + id)); }};
    const std::string stat = "/sys/block/ublkb" + id + "/stat";
    for (int i = 0; i < kills() && !clients.done(); ++i) {
        const std::string before = read_line(stat);
        EXPECT_TRUE(eventually([&] { return read_line(stat) != before; })) << "fio is at work";
        std::this_thread::sleep_for(std::chrono::milliseconds{50 + 70 * i % 200});
        kill(*serving);
        EXPECT_FALSE(clients.done()) << "this kill came too late to prove anything";
        serving = server(disk.path(), requested, number_of(id));
        ASSERT_EQ(serving->hear(long_patience), id) << "after kill " << i + 1;
    }
    clients.end(long_patience);
    EXPECT_EQ(done.program.output.find("verify:"), std::string::npos) << done.program.output;
    ASSERT_EQ(done.jobs.size(), 1u) << done.program.output;
    const int error = done.jobs[0].error;
    EXPECT_TRUE(error == 0 || may_see().contains(error)) << error << "\n" << done.program.output;
    EXPECT_GT(done.jobs[0].read, GetParam().kind == reissue ? size() - 1 : size() / 8)
        << "what was written is read back";
    stop(*serving);
}

INSTANTIATE_TEST_SUITE_P(
    recovery, killed_servers,
    testing::Values(cell{fail_in_flight, data_path::copy},
                    cell{fail_in_flight, data_path::user_copy},
                    cell{fail_in_flight, data_path::zero_copy}, cell{reissue, data_path::copy},
                    cell{reissue, data_path::user_copy}, cell{reissue, data_path::zero_copy},
                    cell{fail_io, data_path::copy}, cell{fail_io, data_path::user_copy},
                    cell{fail_io, data_path::zero_copy}),
    name_of);

}  // namespace
}  // namespace recovery_fio_test
}  // namespace ublk_test
