FROM python:3.12-slim

RUN useradd --create-home --uid 1000 refstar \
    && install --directory --owner refstar --mode 0755 /refstar-home /refstar-home/images
WORKDIR /opt/refstar-engine
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY annotator annotator
COPY dataset_engine dataset_engine
COPY migrations migrations
COPY models models
COPY restoration restoration
RUN pip install --no-cache-dir -c constraints.txt '.[postgres]' \
    && pip install --no-cache-dir --no-deps -c constraints.txt mediapipe
USER refstar
ENTRYPOINT ["engine"]
CMD ["status"]
