#include "runtime/host/checkpoint_part.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "runtime/host/checkpoint_field.hpp"
#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/chunk_codec.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/host/field_attributes.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using namespace checkpoint_files;
using Limits = CheckpointLimits;

constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;
// Pages, so that no write has to read one first. HDF5 wants a user block to be as large.
constexpr std::uint64_t kAlignmentBytes = kUserBlockBytes;
constexpr std::array<std::string_view, 6> kReservedAttributes = {
    "format", "format_version", "run", "checkpoint", "epoch", "rank"};

bool is_attribute_name(std::string_view name) {
  return is_dataset_name(name) && !name.contains('/') &&
         std::ranges::find(kReservedAttributes, name) == kReservedAttributes.end();
}

std::string attribute_problem(const std::vector<NamedValue>& attributes) {
  if (attributes.size() > Limits::named_values_max) return "more attributes than a part may have";
  std::set<std::string_view> names;
  for (const auto& [name, value] : attributes) {
    if (!is_attribute_name(name) || !names.insert(name).second)
      return fmt::format("'{}' is no name for an attribute, or taken", name);
    const auto* text = std::get_if<std::string>(&value);
    if (text != nullptr && (text->size() > Limits::text_bytes_max || text->contains('\0')))
      return fmt::format("the text of attribute '{}' has a NUL or more than {} bytes", name,
                         Limits::text_bytes_max);
  }
  return {};
}

std::string piece_problem(const PieceToWrite& piece) {
  if (!is_dataset_name(piece.dataset))
    return fmt::format("'{}' is no name for a dataset", piece.dataset);
  if (piece.bytes.size() % hdf5::element_bytes(piece.type) != 0)
    return fmt::format("a piece of '{}' is not whole elements", piece.dataset);
  const std::uint64_t rows = piece.bytes.size() / hdf5::element_bytes(piece.type);
  if (piece.first_row > Limits::rows_max || rows > Limits::rows_max - piece.first_row)
    return fmt::format("a piece of '{}' ends beyond row {}", piece.dataset, Limits::rows_max);
  if (piece.block)
    if (const auto problem = checkpoint_fields::block_problem(*piece.block, rows); !problem.empty())
      return fmt::format("a piece of '{}' {}", piece.dataset, problem);
  return {};
}

// What is wrong with the request itself, if anything.
std::string request_problem(const PartRequest& request) {
  if (request.checkpoint.value == 0) return "checkpoints are numbered from 1";
  if (request.deflate_level < 0 || request.deflate_level > 9) return "deflate has levels 0 to 9";
  if (request.pieces.size() > Limits::pieces_max)
    return fmt::format("more than {} pieces", Limits::pieces_max);
  std::set<std::pair<std::string_view, std::uint64_t>> places;
  for (const auto& piece : request.pieces) {
    if (auto problem = piece_problem(piece); !problem.empty()) return problem;
    if (!places.emplace(piece.dataset, piece.first_row).second)
      return fmt::format("two pieces of '{}' at row {}", piece.dataset, piece.first_row);
  }
  return attribute_problem(request.attributes);
}

class PartWriting {
 public:
  PartWriting(FileSystem& file_system, const std::filesystem::path& directory,
              const std::string& run, const PartRequest& request)
      : file_system_(file_system),
        directory_(directory),
        run_(run),
        request_(request),
        part_{.file = part_name(request.rank, request.checkpoint, request.checkpoint),
              .rank = request.rank,
              .written_in = request.checkpoint,
              .epoch = request.epoch,
              .attributes = request.attributes},
        path_(directory / part_.file),
        temporary_(path_.string() + std::string(kTemporarySuffix)) {}

  std::expected<PartFile, std::string> run() {
    auto file = hdf5::File::create(temporary_, file_system_,
                                   {hdf5::Format::k18, kUserBlockBytes, kAlignmentBytes});
    // Whatever has the temporary name is another writer's, and stays.
    if (!file) return failed_writing("create", file.error());
    auto done = write(*file);
    if (done) done = hash_structure();
    if (done) done = publish(file_system_, temporary_, path_);
    if (done) done = sync_directory(file_system_, directory_);
    if (done) return std::move(part_);
    file = hdf5::File();
    file_system_.unlink(temporary_.c_str());
    return std::unexpected(done.error());
  }

 private:
  using Outcome = std::expected<void, std::string>;

  std::unexpected<std::string> failed_writing(std::string_view what, std::string_view why) const {
    return std::unexpected(fmt::format("cannot {} {}: {}", what, temporary_.string(), why));
  }

  Outcome write(hdf5::File& file) {
    auto root = file.root();
    if (!root) return failed_writing("write", root.error());
    auto done = write_attributes(*root);
    if (done) done = write_pieces(*root);
    if (done) {
      const auto identity = identity_text(run_, part_);
      done = file.write_user_block(std::as_bytes(std::span(identity)));
    }
    if (done) done = file.flush();
    if (done) done = root->close();
    if (done) done = file.close();
    if (!done) return failed_writing("write", done.error());
    return {};
  }

  hdf5::Expected<void> write_attributes(hdf5::Group& root) {
    hdf5::Expected<void> done;
    const auto put = [&](const std::string& name, const hdf5::Value& value) {
      if (done) done = root.put_attribute(name, value);
    };
    put("format", std::string("regroup-checkpoint-part"));
    put("format_version", std::int64_t{1});
    put("run", run_);
    put("checkpoint", request_.checkpoint.value);
    put("epoch", request_.epoch.value);
    put("rank", std::uint64_t{request_.rank.value});
    for (const auto& [name, value] : request_.attributes) put(name, value);
    return done;
  }

  hdf5::Expected<void> write_pieces(hdf5::Group& root) {
    std::map<std::string_view, int> pieces_of;
    for (const auto& piece : request_.pieces) ++pieces_of[piece.dataset];
    for (const auto& piece : request_.pieces) {
      StoredPiece stored{.dataset = piece.dataset,
                         .path = piece.dataset,
                         .type = piece.type,
                         .first_row = piece.first_row,
                         .rows = piece.bytes.size() / hdf5::element_bytes(piece.type),
                         .block = piece.block};
      if (pieces_of[piece.dataset] > 1) stored.path += fmt::format("@{}", piece.first_row);
      if (auto done = write_piece(root, piece, stored); !done)
        return std::unexpected(fmt::format("dataset '{}': {}", piece.dataset, done.error()));
      part_.pieces.push_back(std::move(stored));
    }
    return {};
  }

  hdf5::Expected<void> write_piece(hdf5::Group& root, const PieceToWrite& piece,
                                   StoredPiece& stored) {
    if (request_.deflate_level != 0 && stored.rows != 0)
      stored.chunk_rows = std::min(stored.rows, kChunkBytes / hdf5::element_bytes(piece.type));
    const auto at = stored.path.rfind('/');
    auto group = group_at(root, at == stored.path.npos ? "" : stored.path.substr(0, at));
    if (!group) return std::unexpected(group.error());
    const hdf5::Layout layout{stored.rows, stored.chunk_rows,
                              stored.chunk_rows == 0 ? 0 : request_.deflate_level,
                              hdf5::Fill::kNothing};
    auto dataset = group->create_dataset(
        at == stored.path.npos ? stored.path : stored.path.substr(at + 1), piece.type, layout);
    if (!dataset) return std::unexpected(dataset.error());
    auto done = stored.chunk_rows == 0 ? write_contiguous(*dataset, piece, stored)
                                       : write_chunks(*dataset, piece, stored);
    if (done) done = dataset->put_attribute("first_row", piece.first_row);
    if (done) done = dataset->put_attribute("xxh3_128", stored.hash);
    if (done && piece.block) done = put_block(*dataset, *piece.block);
    if (done) done = dataset->close();
    return done;
  }

  static hdf5::Expected<void> put_block(hdf5::Dataset& dataset, const FieldBlock& block) {
    auto done = put_field(dataset, block.field);
    if (done) done = dataset.put_attribute("grid_shape", block.field.shape);
    if (done) done = dataset.put_attribute("block_start", block.start);
    if (done) done = dataset.put_attribute("block_extent", block.extent);
    return done;
  }

  // Opened or created, with the groups above it.
  static hdf5::Expected<hdf5::Group> group_at(const hdf5::Group& root, std::string_view path) {
    auto group = root.open_group(".");
    while (group && !path.empty()) {
      const std::string name(path.substr(0, path.find('/')));
      path.remove_prefix(std::min(path.size(), name.size() + 1));
      const auto there = group->has(name);
      if (!there) return std::unexpected(there.error());
      group = *there ? group->open_group(name) : group->create_group(name);
    }
    return group;
  }

  // Hash, then write, while a block is in the cache.
  static hdf5::Expected<void> write_contiguous(hdf5::Dataset& dataset, const PieceToWrite& piece,
                                               StoredPiece& stored) {
    const auto storage = dataset.storage();
    if (!storage) return std::unexpected(storage.error());
    ContentHasher hasher;
    const std::size_t element_bytes = hdf5::element_bytes(piece.type);
    for (std::size_t at = 0; at < piece.bytes.size(); at += kBlockBytes) {
      const auto block = piece.bytes.subspan(at, std::min(kBlockBytes, piece.bytes.size() - at));
      hasher.update(block);
      if (auto done = dataset.write_raw(*storage, at / element_bytes, block); !done) return done;
    }
    stored.hash = hasher.hex();
    if (stored.rows != 0) stored.storage.push_back(*storage);
    return {};
  }

  hdf5::Expected<void> write_chunks(hdf5::Dataset& dataset, const PieceToWrite& piece,
                                    StoredPiece& stored) const {
    const std::size_t element_bytes = hdf5::element_bytes(piece.type);
    const std::size_t chunk_bytes = stored.chunk_rows * element_bytes;
    ContentHasher hasher;
    ContentHasher stored_hasher;
    std::vector<std::byte> filled;  // the last chunk, with zeros after its rows
    std::vector<std::byte> compressed;
    for (std::size_t at = 0; at < piece.bytes.size(); at += chunk_bytes) {
      auto chunk = piece.bytes.subspan(at, std::min(chunk_bytes, piece.bytes.size() - at));
      hasher.update(chunk);
      if (chunk.size() < chunk_bytes) {
        filled.assign(chunk.begin(), chunk.end());
        filled.resize(chunk_bytes);
        chunk = filled;
      }
      const bool smaller = compress_chunk(chunk, element_bytes, request_.deflate_level, compressed);
      const auto bytes = smaller ? std::span<const std::byte>(compressed) : chunk;
      stored_hasher.update(bytes);
      const auto extent = dataset.write_chunk(
          at / element_bytes, bytes, smaller ? hdf5::Filters::kApplied : hdf5::Filters::kSkipped);
      if (!extent) return std::unexpected(extent.error());
      stored.storage.push_back(*extent);
    }
    stored.hash = hasher.hex();
    stored.stored_hash = stored_hasher.hex();
    return {};
  }

  // HDF5 decides when its own bytes are written, so they are read back, from the system's cache.
  Outcome hash_structure() {
    const auto file = open_regular(file_system_, temporary_);
    if (!file) return std::unexpected(file.error().reason);
    part_.bytes = file->bytes;
    for (const auto& piece : part_.pieces)
      for (const auto& extent : piece.storage)
        if (extent.end() > part_.bytes) return failed_writing("write", "it is too short");
    auto hash = hash_of(file_system_, file->descriptor.get(), structure_of(part_));
    if (!hash) return failed_writing("read back", hash.error());
    part_.structure_hash = std::move(*hash);
    return {};
  }

  FileSystem& file_system_;
  const std::filesystem::path& directory_;
  const std::string& run_;
  const PartRequest& request_;
  PartFile part_;
  std::filesystem::path path_;
  std::filesystem::path temporary_;
};

}  // namespace

std::expected<PartFile, std::string> write_part_file(FileSystem& file_system,
                                                     const std::filesystem::path& directory,
                                                     const std::string& run,
                                                     const PartRequest& request) {
  if (const auto problem = request_problem(request); !problem.empty())
    return std::unexpected(
        fmt::format("cannot write a part into {}: {}", directory.string(), problem));
  return PartWriting(file_system, directory, run, request).run();
}

}  // namespace regroup
