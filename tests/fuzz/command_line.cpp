// SPDX-License-Identifier: MIT
// The command line of the example programs: any arguments are parsed, or refused in words, and what
// they become the library takes, or refuses in words.
#include "../../examples/program.hpp"
#include "bytes.hpp"

#include <ublk/error.hpp>
#include <ublk/options.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

using ublk_fuzz::bytes;
using ublk_fuzz::expect;

/// Mostly words that mean something; a byte above them begins text of the input's own.
std::vector<std::string> arguments_from(bytes& in) {
    static const std::vector<std::string> words{
        "--size",   "--queues",   "--depth",  "--max-io",    "--id",    "--threads",
        "--batch",  "--buffers",  "--lock",   "--help",      "per_cpu", "shared",
        "each",     "up_to_16",   "batch_io", "transparent", "huge",    "1G",
        "512M",     "4 KiB",      "0",        "-1",          "1",       "4096",
        "33554432", "4294967296", "1048575",  "16777216T",   "1e3",     "18446744073709551616",
        "="};
    std::vector<std::string> arguments;
    while (!in.empty() && arguments.size() < 12) {
        const auto choice = in.number();
        if (choice < words.size()) {
            arguments.push_back(words[choice]);
            continue;
        }
        std::string own(choice % 12u, '\0');
        in.copy_to(std::as_writable_bytes(std::span{own}));
        own.erase(std::find(own.begin(), own.end(), '\0'), own.end());
        const bool attached = choice >= 0xc0 && !arguments.empty();
        attached ? void(arguments.back() += own) : arguments.push_back(own);
    }
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
    return arguments;
}

void check_options(const program::settings& s) {
    const ublk::options requested = program::options_of(s);
    expect(requested.id.has_value() == (s.id >= 0) && (!requested.id || *requested.id < (1u << 20)),
           "--id becomes another id");
    expect(requested.queues <= 4096 && requested.depth >= 1 && requested.depth <= 4096,
           "a number out of range is taken");
    expect(requested.max_io_bytes == std::min<std::uint64_t>(s.max_io, UINT32_MAX),
           "--max-io becomes another size");
    const bool fine = s.max_io >= 4096 && s.max_io <= (32u << 20);
    try {
        ublk::validate(requested, 4096);
        expect(fine, "a size out of range is taken");
    } catch (const ublk::error& why) {
        expect(!fine && !why.cause().empty() && !why.remedy().empty(),
               "a command line that was taken is refused");
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes in{data, size};
    CLI::App app{"A disk."};
    program::settings s;
    program::add_options(app, s);
    try {
        app.parse(arguments_from(in));
    } catch (const CLI::Success&) {
        expect(!app.help().empty(), "help says nothing");
        return 0;
    } catch (const CLI::ParseError& refused) {
        expect(refused.what()[0] != '\0', "a command line is refused without a word");
        return 0;
    }
    check_options(s);
    return 0;
}
