// Manifests and parts of checkpoints from anyone, with their own hash made right, as a forger
// would: a manifest is refused or is the same when it is written again; a checkpoint of it opens,
// verifies and reads, or says why not, with memory that its size and a chunk account for. The same
// holds of manifests that are right but for their fields, which are read out of the input.
#include <algorithm>
#include <array>
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
#include "runtime/host/checkpoint_xdmf.hpp"
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

// The first elements in each dimension, and the last.
void read_blocks(const Checkpoint& checkpoint, const CheckpointDataset& dataset) {
  const GridField* const field = checkpoint.field(dataset.name);
  if (field == nullptr) return;
  std::vector<std::uint64_t> start(field->shape.size());
  std::vector<std::uint64_t> extent(field->shape.size());
  for (const bool first : {true, false}) {
    std::uint64_t elements = 1;
    for (std::size_t i = 0; i < extent.size(); ++i) {
      extent[i] = std::min<std::uint64_t>(field->shape[i], 7);
      start[i] = first ? 0 : field->shape[i] - extent[i];
      elements *= extent[i];
    }
    std::vector<std::byte> bytes(elements * hdf5::element_bytes(dataset.type));
    static_cast<void>(checkpoint.read_block(dataset.name, start, extent, bytes));
  }
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
  if (manifest.xdmf) file_system.add("fields.xdmf", file_of(manifest.xdmf->bytes, input));
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
  for (const auto& dataset : opened->datasets()) read_blocks(*opened, dataset);
  REGROUP_CHECK(peak_bytes - before <= kMemoryBytes + kBytesPerByte * input.size(),
                "reading took more memory than a checkpoint is worth");
}

// ---- Fields ----

// Numbers out of the input, of those at which something turns.
class Numbers {
 public:
  explicit Numbers(std::string_view input) : input_(input) {}

  std::uint64_t next() {
    constexpr std::array<std::uint64_t, 8> edges = {CheckpointLimits::rows_max,
                                                    CheckpointLimits::rows_max + 1,
                                                    std::uint64_t{1} << 29,
                                                    std::uint64_t{1} << 32,
                                                    std::uint64_t{1} << 63,
                                                    UINT64_MAX,
                                                    UINT64_MAX - 1,
                                                    0};
    if (input_.empty()) return 1;
    const auto byte = static_cast<unsigned char>(input_.front());
    input_.remove_prefix(1);
    return byte < 240 ? byte % 8u : edges[byte % edges.size()];
  }
  std::vector<std::uint64_t> list(std::size_t count) {
    std::vector<std::uint64_t> numbers(count);
    for (auto& number : numbers) number = next();
    return numbers;
  }
  bool empty() const { return input_.empty(); }

 private:
  std::string_view input_;
};

StoredPiece a_piece(Numbers& numbers, const GridField& field, std::uint64_t first_row) {
  StoredPiece piece{.dataset = "f", .path = "f", .type = ElementType::kUint8};
  piece.first_row = first_row;
  if (first_row != 0) piece.path += "@" + std::to_string(first_row);
  piece.block =
      FieldBlock{field, numbers.list(field.shape.size()), numbers.list(field.shape.size())};
  piece.rows = 1;
  for (const std::uint64_t extent : piece.block->extent) piece.rows *= extent;
  piece.rows = std::min(piece.rows, kFileBytesMax);
  piece.hash = std::string(32, '0');
  return piece;
}

// A manifest whose fields are as the input says, and all else is right.
CheckpointManifest a_manifest(std::string_view input) {
  Numbers numbers(input);
  PartFile part{.file = "part-0000.h5", .written_in = CheckpointNumber{1}};
  part.structure_hash = std::string(32, '0');
  part.bytes = checkpoint_files::kUserBlockBytes;
  GridField field{.name = "f", .shape = numbers.list(1 + numbers.next() % 4)};
  field.spacing.assign(field.shape.size(), 1);
  field.origin.assign(field.shape.size(), 0);
  for (std::uint64_t row = 0; !numbers.empty() && part.pieces.size() < 16;) {
    part.pieces.push_back(a_piece(numbers, field, row));
    StoredPiece& piece = part.pieces.back();
    row += piece.rows;
    if (piece.rows != 0) piece.storage = {{part.bytes, piece.rows}};
    part.bytes += piece.rows;
  }
  CheckpointManifest manifest{.run = "r", .checkpoint = CheckpointNumber{1}};
  manifest.files = {std::move(part)};
  manifest.view = {9, std::string(32, '0')};
  if (has_grids(manifest)) manifest.xdmf = manifest.view;
  return manifest;
}

bool share_an_element(const FieldBlock& one, const FieldBlock& other) {
  for (std::size_t i = 0; i < one.start.size(); ++i)
    if (one.start[i] + one.extent[i] <= other.start[i] ||
        other.start[i] + other.extent[i] <= one.start[i])
      return false;
  return true;
}

// What is taken for right is so, and can be used.
void use_fields(std::string_view input) {
  const CheckpointManifest manifest = a_manifest(input);
  const std::string problem = problem_with(manifest);
  REGROUP_CHECK(!problem.contains('\n'), "a problem of more than one line");
  const std::string text = to_text(manifest);
  REGROUP_CHECK(parse_manifest(text).has_value() == problem.empty(),
                "a problem that goes or comes on the way");
  if (!problem.empty()) return;
  const auto& pieces = manifest.files[0].pieces;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const FieldBlock& block = *pieces[i].block;
    for (std::size_t d = 0; d < block.start.size(); ++d)
      REGROUP_CHECK(block.start[d] + block.extent[d] <= block.field.shape[d],
                    "a block in its grid");
    for (std::size_t j = 0; j < i && pieces[i].rows != 0; ++j)
      REGROUP_CHECK(pieces[j].rows == 0 || !share_an_element(block, *pieces[j].block),
                    "blocks that share no element");
  }
  REGROUP_CHECK(xdmf_text(manifest).ends_with("</Xdmf>\n"), "fields that can be described");
  use(manifest, input, text);
}

}  // namespace
}  // namespace regroup::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace regroup;           // NOLINT
  using namespace regroup::fuzzing;  // NOLINT
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  use_fields(input);
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
