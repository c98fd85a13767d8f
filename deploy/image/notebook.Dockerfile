# What notebooks of a JupyterHub run: the image of the workers, so that all versions agree, with JupyterLab and the panel.
#   docker build -f deploy/image/notebook.Dockerfile --build-arg WORKER=registry.example.org/ftrack:0.1.0 --build-arg HUB=5 \
#     -t registry.example.org/ftrack-notebook:0.1.0 .
ARG WORKER=registry.example.org/ftrack:0.1.0
FROM ${WORKER}

# The version of JupyterHub that the hub's chart runs; the first number has to agree.
ARG HUB=5
USER root
RUN pip install --no-cache-dir -c /opt/ftrack/constraints.txt '/opt/ftrack[gateway,panel]' "jupyterhub==${HUB}.*"
USER worker

CMD ["jupyterhub-singleuser"]
