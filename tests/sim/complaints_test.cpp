// SPDX-License-Identifier: MIT
// What the laws say of backends that are wrong in some way.
#include "../support/remote_disk.hpp"

#include <ublk/sim/laws/worlds.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace complaints_test {
namespace {

using namespace ublk::sim;
using namespace std::chrono_literals;

/// Sixteen TiB of which only written blocks take memory.
struct sparse {
    [[nodiscard]] std::uint64_t size() const noexcept { return std::uint64_t{16} << 40; }
    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        for (std::size_t i = 0; i < out.size(); ++i) {
            const auto found = bytes.find(r.offset() + i);
            out[i] = found == bytes.end() ? std::byte{0} : found->second;
        }
        return ublk::ok;
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        for (std::size_t i = 0; i < in.size(); ++i) {
            bytes[kept(r.offset()) + i] = in[i];
        }
        return ublk::ok;
    }
    static std::uint64_t kept(std::uint64_t offset) noexcept { return offset; }
    std::map<std::uint64_t, std::byte> bytes;
};

/// The same, but offsets are cut off at 4 GiB.
struct cut_off : sparse {
    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        return sparse::read(shortened(r), out);
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        return sparse::write(shortened(r), in);
    }
    static ublk::request shortened(const ublk::request& r) {
        ublk::uapi::io_desc d{};
        d.op_flags = static_cast<std::uint32_t>(r.op());
        d.nr_sectors = static_cast<std::uint32_t>(r.length() / 512);
        d.start_sector = static_cast<std::uint32_t>(r.offset()) / 512;
        return ublk::request{d, r.queue(), r.tag()};
    }
};

/// Two sleeps at the same time; the one declares nothing, and the other what it does.
struct undeclared {
    [[nodiscard]] std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::task read(ublk::io& with, const ublk::request&, std::span<std::byte> out) {
        const ublk::result both = co_await ublk::when_all(nap(with), nap(with));
        std::fill(out.begin(), out.end(), std::byte{0});
        co_return both;
    }
    ublk::task write(ublk::io& with, const ublk::request&, std::span<const std::byte>) {
        return nap(with);
    }
    static ublk::task nap(ublk::io& with) {
        const int slept = co_await with.sleep(10us);
        co_return slept == 0 ? ublk::ok : ublk::result::failure(slept);
    }
};
struct declared : undeclared {
    static constexpr unsigned operations_in_flight = 2;
};

/// Fails requests of which nobody but an event tells why.
struct throwing {
    [[nodiscard]] std::uint64_t size() const noexcept { return 1u << 20; }
    ublk::result read(const ublk::request&, std::span<std::byte>) { return ublk::ok; }
    ublk::result write(const ublk::request&, std::span<const std::byte>) {
        throw std::runtime_error{"the medium is wet"};
    }
};

struct refusing : throwing {
    ublk::result write(const ublk::request&, std::span<const std::byte>) {
        return std::errc::no_space_on_device;
    }
};

/// A world with that backend, in which clients do that. Returns the first violation.
template <class Backend>
std::string served(const habits& clients_do, std::shared_ptr<Backend> store) {
    conditions given{.seed = 3};
    given.often.short_transfer = 2;
    rig<composition<Backend, ublk::per_cpu, ublk::per_wakeup>> r{given, std::move(store)};
    r.start();
    {
        workload clients{r.in, r.server->id(), r.expected, clients_do};
        clients.run();
        if (clients_do.remembers) {
            clients.read_all();
        }
    }
    r.close();
    const auto found = r.in.take_violations();
    expect_clean(r);
    return found.empty() ? "" : found.front();
}

template <class Backend>
std::string served(const habits& clients_do) {
    return served(clients_do, std::make_shared<Backend>());
}

/// Writes that nobody compares.
habits careless() {
    habits given;
    given.requests = 40;
    given.writes = 2;
    given.bears_errors = true;
    given.remembers = false;
    return given;
}

/// What GoogleTest was told meanwhile.
template <class Run>
std::string failures(Run run) {
    ::testing::TestPartResultArray told;
    {
        const ::testing::ScopedFakeTestPartResultReporter in_place{
            ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &told};
        run();
    }
    std::string text;
    for (int i = 0; i < told.size(); ++i) {
        text += told.GetTestPartResult(i).message();
    }
    return text;
}

TEST(complaints, there_are_none_of_a_disk_of_16_tib) {
    EXPECT_EQ(served<sparse>({.requests = 100}), "");
}

TEST(complaints, offsets_cut_off_at_4_gib_are_noticed) {
    EXPECT_NE(served<cut_off>({.requests = 100}).find("but may only hold"), std::string::npos);
}

TEST(complaints, operations_that_are_not_declared_are_counted) {
    const std::string complaint = failures([] { (void)served<undeclared>(careless()); });
    EXPECT_NE(complaint.find("at least 2 operations in flight"), std::string::npos) << complaint;
    EXPECT_NE(complaint.find("static constexpr unsigned operations_in_flight = 2;"),
              std::string::npos)
        << complaint;
    EXPECT_EQ(failures([] { (void)served<declared>(careless()); }), "");
}

TEST(complaints, events_of_failed_requests_are_told) {
    const std::string complaint = failures([] { (void)served<throwing>(careless()); });
    EXPECT_NE(complaint.find("an event that nobody expects"), std::string::npos) << complaint;
    EXPECT_NE(complaint.find("the medium is wet"), std::string::npos) << complaint;
}

TEST(complaints, short_answers_of_a_peer_are_noticed) {
    const habits few{.requests = 40};
    const auto answered = [&few](int flags) {
        return served(few, std::make_shared<remote_disk>(std::make_shared<remote_server>(), flags));
    };
    EXPECT_EQ(answered(MSG_WAITALL), "");
    EXPECT_NE(answered(0).find("the client gets EIO (errno 5)"), std::string::npos);
}

TEST(complaints, a_peer_that_does_not_answer_is_noticed) {
    const auto server = std::make_shared<remote_server>();
    rig<composition<remote_disk, ublk::per_cpu, ublk::per_wakeup>> r{
        {.seed = 3}, std::make_shared<remote_disk>(server)};
    r.start();
    server->mute = true;
    std::vector<std::byte> data(4096);
    EXPECT_EQ((client{r.in, r.server->id()}.read(8192, data)), ETIMEDOUT);
    EXPECT_THROW(r.server->stop(), ublk::error);
    r.close();
    const auto found = r.in.take_violations();
    ASSERT_FALSE(found.empty());
    EXPECT_EQ(found[0].find("hang: a read of 4096 bytes at 8192 is not answered"), 0u) << found[0];
    EXPECT_EQ(r.in.on().tasks.tasks(), 0u) << r.in.on().tasks.describe_waits();
}

TEST(complaints, name_operations_and_errors) {
    habits alone = careless();
    alone.bears_errors = false;
    const std::string complaint = served<refusing>(alone);
    EXPECT_EQ(complaint.find("write of "), 0u) << complaint;
    EXPECT_NE(complaint.find(" bytes at "), std::string::npos) << complaint;
    EXPECT_NE(complaint.find("the client gets ENOSPC (errno 28)"), std::string::npos) << complaint;
}

}  // namespace
}  // namespace complaints_test
