// SPDX-License-Identifier: MIT
// RAID 0: one disk that goes round several files or block devices.
#include "program.hpp"

#include <ublk/backends/file.hpp>
#include <ublk/backends/stripe.hpp>

#include <vector>

int main(int argc, char** argv) {
    CLI::App app{"Serves several files or block devices, striped, as /dev/ublkbN until a signal "
                 "ends it."};
    program::settings s;
    program::add_options(app, s);
    app.remove_option(app.get_option("--size"));  // that of the files
    std::vector<std::string> paths;
    ublk::backends::file_options file_settings;
    std::uint64_t chunk = 64u << 10;
    app.add_option("path", paths, "regular files or block devices, in order")->required();
    app.add_option("--chunk", chunk, "bytes before the next file's turn: a power of two, 64K, ...")
        ->transform(CLI::AsSizeValue{false})
        ->default_str("64K");
    app.add_flag("--direct", file_settings.direct, "read and write past the page cache (O_DIRECT)");
    app.add_flag("--read-only", file_settings.read_only,
                 "refuse writes; the files need not be writable");
    return program::run(app, argc, argv, [&] {
        std::vector<ublk::backends::file> files;
        for (const std::string& path : paths) {
            files.emplace_back(path, file_settings);
        }
        program::serve_by_name(ublk::backends::stripe{chunk, std::move(files)}, s);
    });
}
