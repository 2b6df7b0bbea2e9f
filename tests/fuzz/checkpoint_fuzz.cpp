// Manifests and parts of checkpoints from anyone, with their own hash made right, as a forger
// would: a manifest is refused or is the same when it is written again; a checkpoint of it opens,
// verifies and reads, or says why not, with memory that its size and a chunk account for.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <sys/stat.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/checkpoint_reader.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/protocol/check.hpp"
#include "tests/fuzz/memory_meter.hpp"

namespace regroup::fuzzing {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{1} << 20;
constexpr std::size_t kReadBytes = 4096;
// Some chunks, and what a byte of JSON may become.
constexpr std::size_t kMemoryBytes = 5 * CheckpointLimits::chunk_bytes_max;
constexpr std::size_t kBytesPerByte = 256;

// A directory in memory. Descriptors are the numbers of its files.
class MemoryFileSystem : public FileSystem {
 public:
  void add(std::string name, std::string contents) {
    contents_.emplace_back(std::move(name), std::move(contents));
  }

  int open(const char* path, int, mode_t) override { return find(path); }
  ssize_t pread(int fd, void* bytes, std::size_t count, off_t offset) override {
    const std::string& file = contents_[static_cast<std::size_t>(fd)].second;
    const auto at = static_cast<std::size_t>(offset);
    if (at >= file.size()) return 0;
    count = std::min(count, file.size() - at);
    std::memcpy(bytes, file.data() + at, count);
    return static_cast<ssize_t>(count);
  }
  int close(int) override { return 0; }
  int fstat(int fd, struct stat* status) override {
    status->st_mode = S_IFREG;
    status->st_size = static_cast<off_t>(contents_[static_cast<std::size_t>(fd)].second.size());
    return 0;
  }
  int lstat(const char* path, struct stat* status) override {
    const int fd = find(path);
    return fd < 0 ? -1 : fstat(fd, status);
  }

 private:
  int find(const std::filesystem::path& path) {
    for (std::size_t i = 0; i < contents_.size(); ++i)
      if (contents_[i].first == path.filename()) return static_cast<int>(i);
    errno = ENOENT;
    return -1;
  }

  std::vector<std::pair<std::string, std::string>> contents_;
};

// As large as it should be, if that is not too much; its bytes are those of the input.
std::string file_of(std::uint64_t bytes, std::string_view input) {
  std::string file(std::min<std::uint64_t>(bytes, kFileBytesMax), '\0');
  for (std::size_t i = 0; i < file.size() && !input.empty(); ++i) file[i] = input[i % input.size()];
  return file;
}

void use(const CheckpointManifest& manifest, std::string_view input, std::string text) {
  MemoryFileSystem file_system;
  for (const auto& part : manifest.files) {
    std::string file = file_of(part.bytes, input);
    const auto identity = checkpoint_files::identity_text(manifest.run, part);
    std::ranges::copy(identity.substr(0, file.size()), file.begin());
    file_system.add(part.file, std::move(file));
  }
  file_system.add("view.h5", file_of(manifest.view.bytes, input));
  file_system.add("manifest.json", std::move(text));
  const std::size_t before = live_bytes;
  peak_bytes = live_bytes;
  const auto opened = Checkpoint::open("/memory", manifest.checkpoint, manifest.run, file_system);
  if (!opened) {
    REGROUP_CHECK(!opened.error().reason.contains('\n'), "a reason of more than one line");
    return;
  }
  REGROUP_CHECK(opened->manifest() == manifest, "a manifest that reads as another");
  static_cast<void>(opened->verify());
  std::vector<std::byte> bytes(kReadBytes);
  for (const auto& dataset : opened->datasets())
    for (const std::uint64_t row : {std::uint64_t{0}, dataset.rows / 2, dataset.rows})
      static_cast<void>(opened->read(dataset.name, row, bytes));
  REGROUP_CHECK(peak_bytes - before <= kMemoryBytes + kBytesPerByte * input.size(),
                "reading took more memory than a checkpoint is worth");
}

}  // namespace
}  // namespace regroup::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace regroup;           // NOLINT
  using namespace regroup::fuzzing;  // NOLINT
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  static_cast<void>(parse_manifest(input));
  if (const auto part = parse_part(input))
    REGROUP_CHECK(parse_part(to_text(*part)).has_value(), "a part that does not come back");

  const std::size_t before = live_bytes;
  peak_bytes = live_bytes;
  std::string text = std::string(input) + regroup::content_hash(input) + "\"\n}\n";
  const auto manifest = parse_manifest(text);
  REGROUP_CHECK(peak_bytes - before <= kMemoryBytes + kBytesPerByte * size,
                "parsing took more memory than the text is worth");
  if (!manifest) return 0;
  const auto again = parse_manifest(to_text(*manifest));
  REGROUP_CHECK(again.has_value() && to_text(*again) == to_text(*manifest),
                "a manifest that is another when it is written again");
  use(*manifest, input, std::move(text));
  return 0;
}
