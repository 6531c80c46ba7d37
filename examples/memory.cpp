// SPDX-License-Identifier: MIT
// A RAM disk: sparse, discardable, as large as the address space allows.
#include "program.hpp"

#include <ublk/backends/memory.hpp>

int main(int argc, char** argv) {
    CLI::App app{"Serves a RAM disk as /dev/ublkbN until a signal ends it."};
    program::settings s;
    program::add_options(app, s);
    app.add_option("--block-size", s.block_size, "logical block size in bytes, 512 to 4096")
        ->check(CLI::IsMember({512, 1024, 2048, 4096}))
        ->capture_default_str();
    app.add_flag("--read-only", s.read_only, "refuse writes");
    bool huge_pages = false;
    app.add_flag("--huge-pages", huge_pages, "huge pages for what is stored: faster, less sparse");
    return program::run(app, argc, argv, [&] {
        program::serve_by_name(
            ublk::backends::memory{s.size, {s.block_size, s.read_only, huge_pages}}, s);
    });
}
